// Convolutions as matrix products in float32 arithmetic: fused multiply-adds on register tiles of up to 8 x 8 results a thread
// (conv_products.cuh). Bound by the FMA units: 16 reads of 16 bytes from shared memory for 256
// multiply-adds.
#include "kernels/cuda/conv_products.cuh"

namespace glia::GPU_NS::simt_conv {
namespace {

//                       rows, columns, a warp's, stages, resident
using Large = Tile<128, 128, 32, 64, 2, 2>;
using Small = Tile<64, 64, 32, 32, 3, 3>;
using Narrow = Tile<128, 32, 32, 32, 3, 3>;

constexpr TileShape tap_shapes[] = {shape_of<Large>(1), shape_of<Small>(0.8), shape_of<Narrow>(0.75)};
constexpr TileShape pixel_shapes[] = {shape_of<Large>(1), shape_of<Small>(0.8)};

constexpr Products products{
    [](const TapProduct& p, Device device) { run_tap_product<Arithmetic::fma, Large, Small, Narrow>(p, device, tap_shapes); },
    [](PixelProduct p, const Tensor& dw) { run_pixel_product<Arithmetic::fma, Large, Small>(p, dw, pixel_shapes); }};

}  // namespace

bool applicable(const ConvGeometry& g, ConvPass) { return products_apply(g); }
void forward(const ConvGeometry& g, const Tensor& x, const Tensor& w, const ConvEpilogue& e, const Tensor& y) {
  product_forward(products, g, x, w, e, y);
}
void data_gradient(const ConvGeometry& g, const Tensor& dy, const Tensor& w, const ConvEpilogue& e, const Tensor& dx) {
  product_data_gradient(products, g, dy, w, e, dx);
}
void weight_gradient(const ConvGeometry& g, const Tensor& x, const Tensor& dy, const Tensor& dw) {
  product_weight_gradient(products, g, x, dy, dw);
}
int tiles(ConvPass pass) { return int(pass == ConvPass::weight_gradient ? std::size(pixel_shapes) : std::size(tap_shapes)); }

}  // namespace glia::GPU_NS::simt_conv
