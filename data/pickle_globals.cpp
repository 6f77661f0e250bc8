#include "data/pickle_globals.h"

#include <algorithm>

namespace glia {
namespace {

constexpr GlobalName table[] = {
    {"collections", "OrderedDict", PickleGlobal::ordered_dict},
    {"torch._utils", "_rebuild_tensor_v2", PickleGlobal::rebuild_tensor},
    {"torch._utils", "_rebuild_tensor", PickleGlobal::rebuild_tensor},
    {"torch._utils", "_rebuild_parameter", PickleGlobal::rebuild_parameter},
    {"torch", "Size", PickleGlobal::torch_size},
    {"torch", "FloatStorage", PickleGlobal::storage, "F32"},
    {"torch", "DoubleStorage", PickleGlobal::storage, "F64"},
    {"torch", "HalfStorage", PickleGlobal::storage, "F16"},
    {"torch", "BFloat16Storage", PickleGlobal::storage, "BF16"},
    {"torch", "LongStorage", PickleGlobal::storage, "I64"},
    {"torch", "IntStorage", PickleGlobal::storage, "I32"},
    {"torch", "ShortStorage", PickleGlobal::storage, "I16"},
    {"torch", "CharStorage", PickleGlobal::storage, "I8"},
    {"torch", "ByteStorage", PickleGlobal::storage, "U8"},
    {"torch", "BoolStorage", PickleGlobal::storage, "BOOL"},
    {"torch", "UntypedStorage", PickleGlobal::storage, "U8"},
    {"torch.storage", "UntypedStorage", PickleGlobal::storage, "U8"},
    {"numpy.core.multiarray", "_reconstruct", PickleGlobal::reconstruct},
    {"numpy._core.multiarray", "_reconstruct", PickleGlobal::reconstruct},
    {"numpy.core.numeric", "_frombuffer", PickleGlobal::from_buffer},
    {"numpy._core.numeric", "_frombuffer", PickleGlobal::from_buffer},
    {"numpy.core.multiarray", "scalar", PickleGlobal::numpy_scalar},
    {"numpy._core.multiarray", "scalar", PickleGlobal::numpy_scalar},
    {"numpy", "ndarray", PickleGlobal::ndarray},
    {"numpy", "dtype", PickleGlobal::numpy_dtype},
    {"_codecs", "encode", PickleGlobal::encode},
    {"__builtin__", "bytes", PickleGlobal::bytes},
    {"builtins", "bytes", PickleGlobal::bytes},
};

}  // namespace

std::optional<size_t> find_global(std::string_view module, std::string_view name) {
  const auto found =
      std::find_if(std::begin(table), std::end(table), [&](const auto& g) { return g.module == module && g.name == name; });
  if (found == std::end(table)) return std::nullopt;
  return static_cast<size_t>(found - std::begin(table));
}

const GlobalName& pickle_global(size_t index) { return table[index]; }

PickleGlobal global_of(const PickleValue& value) {
  return value.kind == PickleValue::Kind::global ? table[value.index].global : PickleGlobal::none;
}

std::string_view storage_dtype_of(const PickleValue& value) {
  return value.kind == PickleValue::Kind::global ? table[value.index].dtype : std::string_view();
}

}  // namespace glia
