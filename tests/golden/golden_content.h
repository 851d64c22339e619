// The content of the golden databases: a store with every kind of record, always the same.
//
// Thread safety: pure functions but for the store.
//
//   WriteGolden(path);
//   CHECK(DescribeGolden(*store) == ReadBytes("schema-1.txt"));
#ifndef THROTTL_TESTS_GOLDEN_GOLDEN_CONTENT_H_
#define THROTTL_TESTS_GOLDEN_GOLDEN_CONTENT_H_

#include <string>

#include "throttl/quota_store.h"

namespace throttl::testing {

// Makes the database at `path` with the present library: keys and plans by an engine whose clock
// and randomness are fixed, the rest by the store itself.
void WriteGolden(const std::string& path);

// Every record as text, as far as a store of schema `version` kept it: plans, keys, webhooks,
// events, counters, usage, deliveries.
std::string DescribeGolden(QuotaStore& store, int version);

// The secret of the key "key-plain", as it was shown once.
std::string GoldenSecret();

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_GOLDEN_GOLDEN_CONTENT_H_
