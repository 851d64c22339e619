// One round trip to a Redis server on 127.0.0.1 a request, over TCP.
//
// redis_peer incr|window CALLS PORT: INCR alone, or INCR and, for the first of a minute, PEXPIRE in
// one script
#include <hiredis/hiredis.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"

#include "benchmarks/bench_keys.h"
#include "benchmarks/compare/peer.h"

namespace throttl::benchmarks {
namespace {

constexpr const char* kWindow =
    "local used = redis.call('INCR', KEYS[1])\n"
    "if used == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end\n"
    "return used\n";

class RedisLimiter {
 public:
  explicit RedisLimiter(int port) : context_(redisConnect("127.0.0.1", port)) {
    Require(context_ != nullptr && context_->err == 0, "the server cannot be reached");
    const Reply loaded = Take(redisCommand(context_.get(), "SCRIPT LOAD %s", kWindow));
    Require(loaded->type == REDIS_REPLY_STRING, "the script was refused");
    script_ = std::string(loaded->str, static_cast<std::size_t>(loaded->len));
  }

  // How many requests `key` has made, with this one.
  std::int64_t Increment(const std::string& key) const {
    return NumberOf(redisCommand(context_.get(), "INCR %s", key.c_str()));
  }
  // The same, of a minute that begins with the first of them.
  std::int64_t IncrementInWindow(const std::string& key) const {
    return NumberOf(redisCommand(context_.get(), "EVALSHA %s 1 %s %d", script_.c_str(), key.c_str(),
                                 static_cast<int>(kPeerWindowSeconds) * 1'000));
  }

 private:
  struct Free {
    void operator()(redisContext* context) const { redisFree(context); }
    void operator()(redisReply* reply) const { freeReplyObject(reply); }
  };
  using Reply = std::unique_ptr<redisReply, Free>;

  Reply Take(void* reply) const {
    Require(reply != nullptr, context_->errstr);
    return Reply(static_cast<redisReply*>(reply));
  }
  std::int64_t NumberOf(void* taken) const {
    const Reply reply = Take(taken);
    Require(reply->type == REDIS_REPLY_INTEGER, "the answer is not a number");
    return reply->integer;
  }

  std::unique_ptr<redisContext, Free> context_;
  std::string script_;
};

void Run(const PeerArguments& arguments) {
  Require(arguments.row == "incr" || arguments.row == "window", "no such row");
  int port = 0;
  Require(arguments.more.size() == 1 && absl::SimpleAtoi(arguments.more[0], &port), "which port?");
  const RedisLimiter limiter(port);
  const bool window = arguments.row == "window";
  const auto used = [&](const std::string& key) {
    return window ? limiter.IncrementInWindow(key) : limiter.Increment(key);
  };
  RequireThreeAllowed([&] { return used("three") <= 3; });
  const std::vector<std::string> keys = PeerKeys();
  PrintNsPerCheck(arguments.calls,
                  [&](std::size_t number) { return used(keys[number]) <= kPeerLimit; });
}

}  // namespace
}  // namespace throttl::benchmarks

int main(int argc, char** argv) {
  throttl::benchmarks::Run(throttl::benchmarks::PeerArguments(argc, argv));
}
