#pragma once
// From a pickle's values to named tensors and scalars, no part of the library's interface.
#include <functional>

#include "data/pickle.h"
#include "data/weights.h"

namespace glia {

// The storage behind a persistent id ("storage", type, key, location, elements, ...).
using StorageOfId = std::function<std::shared_ptr<const Storage>(const PickleNode& id)>;

// Everything reachable from the root. None is left out; a prefix "module." that all keys of a dict have (DataParallel) goes.
// `mapped`: the pickle's bytes lie in a mapped file. DataError for cycles, names twice, and values that are neither tensors, numbers nor texts.
void flatten_pickle(const Pickle& pickle, bool mapped, const StorageOfId& storage_of_id, Weights& weights);

// The parts of a persistent id. DataError where it is not of that form.
struct StorageId {
  std::string_view dtype;
  std::string key;
  uint64_t elements = 0;
};
StorageId storage_id(const Pickle& pickle, const PickleNode& id);

}  // namespace glia
