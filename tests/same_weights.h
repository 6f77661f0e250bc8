#pragma once
#include <doctest/doctest.h>

#include <algorithm>

#include "data/weights.h"

namespace glia::tests {

// Names, types, shapes and bytes of all tensors, in order.
inline void check_same_weights(const Weights& got, const Weights& want) {
  REQUIRE(got.tensors.size() == want.tensors.size());
  for (size_t i = 0; i < want.tensors.size(); ++i) {
    const StoredTensor &g = got.tensors[i], &w = want.tensors[i];
    INFO(w.name);
    CHECK(g.name == w.name);
    CHECK(g.dtype == w.dtype);
    CHECK(g.shape == w.shape);
    const StoredBytes a = g.bytes(got.source), b = w.bytes(want.source);
    CHECK(std::equal(a.view.begin(), a.view.end(), b.view.begin(), b.view.end()));
  }
}

}  // namespace glia::tests
