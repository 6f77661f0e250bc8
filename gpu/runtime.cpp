// Which runtimes this program was built with.
#include "gpu/runtime.h"

namespace glia::emulated {
const gpu::Runtime& runtime();
}

#if defined(GLIA_WITH_CUDA)
namespace glia::cuda {
const gpu::Runtime& runtime();
}
#endif

namespace gpu {

const Runtime& emulated_runtime() { return glia::emulated::runtime(); }

const Runtime* cuda_runtime() {
#if defined(GLIA_WITH_CUDA)
  return &glia::cuda::runtime();
#else
  return nullptr;
#endif
}

}  // namespace gpu
