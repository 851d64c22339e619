// An HttpServer stands for the web server that a user's program has.
//
// Thread safety: values.
//
//   host::HttpResponse response = Handle(engine, {.headers = {{"X-API-Key", key}}});
#ifndef THROTTL_TESTS_CONSUMER_HTTP_SERVER_H_
#define THROTTL_TESTS_CONSUMER_HTTP_SERVER_H_

#include <map>
#include <string>
#include <string_view>

namespace host {

struct HttpRequest {
  std::string method = "GET";
  std::string route = "/v1/search";
  std::string peer_address = "192.0.2.1";
  std::map<std::string, std::string> headers = {};

  std::string_view header(std::string_view name) const {
    const auto found = headers.find(std::string(name));
    return found == headers.end() ? std::string_view() : found->second;
  }
};

struct HttpResponse {
  int status = 200;
  std::string body = {};
  std::map<std::string, std::string> headers = {};

  void set(std::string_view name, std::string_view value) {
    headers[std::string(name)] = std::string(value);
  }
};

// The page that a key's owner asked for.
inline HttpResponse Search(const HttpRequest& request, std::string_view owner_id) {
  return {.body = request.route + " for " + std::string(owner_id)};
}

}  // namespace host

#endif  // THROTTL_TESTS_CONSUMER_HTTP_SERVER_H_
