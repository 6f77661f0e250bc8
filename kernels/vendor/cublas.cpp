// Matrix products by cuBLAS, opened at its first use: a body of kernels/cuda/gemm.cu's product. With a workspace of its own on one stream
// cuBLAS gives the same bits in every run.
#include <cublas_v2.h>

#include <cstdio>

#include "kernels/gemm.h"
#include "kernels/vendor/shared_library.h"
#include "tensor/error.h"
#include "tensor/memory.h"
#include "tensor/stream.h"

namespace glia::cublas {
namespace {

#define GLIA_CUBLAS_FUNCTIONS(X) \
  X(cublasCreate_v2)             \
  X(cublasGetProperty) X(cublasGetStatusString) X(cublasSetStream_v2) X(cublasSetWorkspace_v2) X(cublasGemmStridedBatchedEx_64)

#define GLIA_TEXT_OF(x) #x
#define GLIA_TEXT(x) GLIA_TEXT_OF(x)

struct Library {
#define GLIA_CUBLAS_MEMBER(function) decltype(&::function) function = nullptr;
  GLIA_CUBLAS_FUNCTIONS(GLIA_CUBLAS_MEMBER)
#undef GLIA_CUBLAS_MEMBER
  cublasHandle_t handle = nullptr;
  std::string fault;  // why it cannot be used; empty when it can

  Library() {
    static auto* file = new vendor::SharedLibrary("libcublas.so." GLIA_TEXT(CUBLAS_VER_MAJOR));
#define GLIA_CUBLAS_LOAD(function) file->get(function, #function);
    GLIA_CUBLAS_FUNCTIONS(GLIA_CUBLAS_LOAD)
#undef GLIA_CUBLAS_LOAD
    fault = file->fault();
    if (!fault.empty()) return;
    int major = 0;
    cublasGetProperty(MAJOR_VERSION, &major);
    if (major != CUBLAS_VER_MAJOR) {
      fault = fmt::format("it is version {}, want {}.x", major, CUBLAS_VER_MAJOR);
    } else if (const cublasStatus_t status = cublasCreate_v2(&handle); status != CUBLAS_STATUS_SUCCESS) {
      fault = cublasGetStatusString(status);
    }
  }
};

const Library& opened() {
  static const auto* library = new Library;
  return *library;
}

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw DeviceError("{}: {}: {}", memory_scope(), call, opened().cublasGetStatusString(status));
}

// The library, ready on the compute stream, or null with one warning on stderr.
const Library* library(Device device) {
  constexpr int64_t workspace_bytes = int64_t(32) << 20;  // what cuBLAS wants on Hopper
  static const Library* ready = [&]() -> const Library* {
    const Library& l = opened();
    if (!l.fault.empty()) {
      std::fprintf(stderr, "note: cuBLAS is not used (%s); the hand-written kernels are\n", l.fault.c_str());
      return nullptr;
    }
    static const auto* workspace = new Tensor({workspace_bytes}, DType::uint8, device);
    check(l.cublasSetStream_v2(l.handle, static_cast<cudaStream_t>(compute_stream(device))), "cublasSetStream");
    check(l.cublasSetWorkspace_v2(l.handle, workspace->raw(), workspace->bytes()), "cublasSetWorkspace");
    return &l;
  }();
  return ready;
}

cublasComputeType_t compute_type() {
  switch (precision()) {
    case Precision::exact: return CUBLAS_COMPUTE_32F_PEDANTIC;
    case Precision::fp32: return CUBLAS_COMPUTE_32F;
    case Precision::tf32: return CUBLAS_COMPUTE_32F_FAST_TF32;
    case Precision::bf16: return CUBLAS_COMPUTE_32F_FAST_16BF;
  }
  return CUBLAS_COMPUTE_32F;
}

}  // namespace

std::string fault() { return opened().fault; }

bool gemm(const Gemm& g, Device device) {
  const Library* l = library(device);
  if (!l) return false;
  const std::vector<BlasCall> calls = blas_calls(g);
  const float one = 1, zero = 0;
  const auto operation = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  for (const BlasCall& c : calls)
    check(l->cublasGemmStridedBatchedEx_64(l->handle, operation(c.transpose_a), operation(c.transpose_b), c.m, c.n, c.k, &one,
                                           c.a, CUDA_R_32F, c.lda, c.step_a, c.b, CUDA_R_32F, c.ldb, c.step_b,
                                           c.accumulate ? &one : &zero, c.c, CUDA_R_32F, c.ldc, c.step_c, c.batch, compute_type(),
                                           CUBLAS_GEMM_DEFAULT),
          "cublasGemmStridedBatchedEx");
  return !calls.empty();
}

}  // namespace glia::cublas
