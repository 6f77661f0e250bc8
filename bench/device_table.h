#pragma once
// The kernels of a device against what the device can do, and against NVIDIA's libraries, as Markdown tables.
#include <string>

#include "tensor/device.h"

namespace glia::bench {

// Ops bound by memory: GB/s, percent of the bandwidth of a copy measured just before. Matrix products and convolutions (conv_shapes.h) in
// float32, TF32 and BF16: TFLOP/s, percent of the fastest large product of that precision measured just before, and of cuBLAS or cuDNN
// in the same run. Times are medians by events, with a warm L2 cache (the op again and again) and a cold one. On the emulated device
// sizes are small and the times those of a CPU: they say nothing. `only`: kernels whose name contains it. Returns the exit code: 2
// where there are none.
int print_device_tables(Device device, const std::string& only);

// Clocks of a GPU at this moment, "SM 1980 MHz, memory 3201 MHz, 693 W, 54 C", by NVML; or why they are not known.
std::string gpu_clocks(int device);

}  // namespace glia::bench
