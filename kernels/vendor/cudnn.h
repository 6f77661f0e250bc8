#pragma once
// The part of cuDNN 9 that is used, opened at first use. Included by the cudnn_*.cpp beside this file alone.
#include <cudnn.h>

#include <string>

#include "kernels/vendor/shared_library.h"
#include "tensor/device.h"

namespace glia::cudnn {

#define GLIA_CUDNN_FUNCTIONS(X)                                                                                       \
  X(cudnnCreate) X(cudnnSetStream) X(cudnnGetVersion) X(cudnnGetErrorString)                                          \
  X(cudnnCreateTensorDescriptor) X(cudnnSetTensor4dDescriptor) X(cudnnDestroyTensorDescriptor)                        \
  X(cudnnCreateFilterDescriptor) X(cudnnSetFilter4dDescriptor) X(cudnnDestroyFilterDescriptor)                        \
  X(cudnnCreateConvolutionDescriptor) X(cudnnSetConvolution2dDescriptor) X(cudnnDestroyConvolutionDescriptor)         \
  X(cudnnSetConvolutionMathType) X(cudnnSetConvolutionGroupCount)                                                     \
  X(cudnnGetConvolutionForwardAlgorithm_v7) X(cudnnConvolutionForward)                                                \
  X(cudnnGetConvolutionBackwardDataAlgorithm_v7) X(cudnnConvolutionBackwardData)                                      \
  X(cudnnGetConvolutionBackwardFilterAlgorithm_v7) X(cudnnConvolutionBackwardFilter)                                  \
  X(cudnnAddTensor) X(cudnnCreateOpTensorDescriptor) X(cudnnSetOpTensorDescriptor) X(cudnnOpTensor)                   \
  X(cudnnCreateActivationDescriptor) X(cudnnSetActivationDescriptor) X(cudnnActivationForward)

// The functions under cuDNN's names, and a handle that works on the compute stream.
struct Library {
#define GLIA_CUDNN_MEMBER(function) decltype(&::function) function = nullptr;
  GLIA_CUDNN_FUNCTIONS(GLIA_CUDNN_MEMBER)
#undef GLIA_CUDNN_MEMBER
  cudnnHandle_t handle = nullptr;
  std::string fault;  // why it cannot be used; empty when it can

  Library();
};

// The library, or null with one warning on stderr where it is missing, of another major version, or refuses.
const Library* library();

// Throws DeviceError naming the op and what cuDNN says.
void check(cudnnStatus_t status, const char* call);
#define GLIA_CUDNN(call) ::glia::cudnn::check(::glia::cudnn::library()->call, #call)

}  // namespace glia::cudnn
