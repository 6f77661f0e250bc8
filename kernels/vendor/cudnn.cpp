#include "kernels/vendor/cudnn.h"

#include <cstdio>

#include "tensor/error.h"
#include "tensor/memory.h"
#include "tensor/stream.h"

namespace glia::cudnn {

Library::Library() {
  static auto* file = new vendor::SharedLibrary("libcudnn.so.9");
#define GLIA_CUDNN_LOAD(function) file->get(function, #function);
  GLIA_CUDNN_FUNCTIONS(GLIA_CUDNN_LOAD)
#undef GLIA_CUDNN_LOAD
  fault = file->fault();
  if (!fault.empty()) return;
  if (const size_t version = cudnnGetVersion(); version / 10000 != CUDNN_MAJOR) {
    fault = fmt::format("it is version {}, want {}.x", version, CUDNN_MAJOR);
  } else if (const cudnnStatus_t status = cudnnCreate(&handle); status != CUDNN_STATUS_SUCCESS) {
    fault = cudnnGetErrorString(status);
  } else {
    cudnnSetStream(handle, static_cast<cudaStream_t>(compute_stream(DeviceKind::cuda)));
  }
}

namespace {
const Library& opened() {
  static const auto* library = new Library;
  return *library;
}
}  // namespace

std::string fault() { return opened().fault; }

const Library* library() {
  static const Library* usable = [] {
    const Library& l = opened();
    if (!l.fault.empty())
      std::fprintf(stderr, "note: cuDNN is not used (%s); the hand-written kernels are\n", l.fault.c_str());
    return l.fault.empty() ? &l : nullptr;
  }();
  return usable;
}

void check(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  const std::string name(call, std::string_view(call).find('('));
  throw DeviceError("{}: {}: {}", memory_scope(), name, library()->cudnnGetErrorString(status));
}

}  // namespace glia::cudnn
