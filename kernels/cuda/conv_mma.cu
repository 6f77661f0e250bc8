// Convolutions as matrix products on the tensor cores, TF32 and BF16 by precision(), sums in float32 (conv_products.cuh). Bound
// by the matrix instructions where channels are many; by the L2 cache's bandwidth where the tile is small, which is why large
// tiles come first.
#include "kernels/cuda/conv_products.cuh"

namespace glia::GPU_NS::mma_conv {
namespace {

//              rows, columns, a warp's, stages, resident
using Huge = Tile<256, 128, 64, 64, 3, 1>;
using Large = Tile<128, 128, 64, 64, 3, 2>;
using Medium = Tile<128, 64, 64, 32, 4, 2>;
using Small = Tile<64, 64, 32, 32, 3, 4>;
using Narrow = Tile<128, 32, 32, 32, 4, 2>;

constexpr TileShape tap_shapes[] = {shape_of<Huge>(1.05), shape_of<Large>(1), shape_of<Medium>(0.85), shape_of<Small>(0.7),
                                    shape_of<Narrow>(0.65)};
constexpr TileShape pixel_shapes[] = {shape_of<Large>(1), shape_of<Medium>(0.85), shape_of<Small>(0.7)};

template <Arithmetic arithmetic>
constexpr Products products{
    [](const TapProduct& p, Device device) {
      run_tap_product<arithmetic, Huge, Large, Medium, Small, Narrow>(p, device, tap_shapes);
    },
    [](PixelProduct p, const Tensor& dw) { run_pixel_product<arithmetic, Large, Medium, Small>(p, dw, pixel_shapes); }};

const Products& by_precision() {
  return precision() == Precision::bf16 ? products<Arithmetic::bf16> : products<Arithmetic::tf32>;
}

}  // namespace

bool applicable(const ConvGeometry& g, ConvPass) {
  return (precision() == Precision::tf32 || precision() == Precision::bf16) && products_apply(g);
}
void forward(const ConvGeometry& g, const Tensor& x, const Tensor& w, const ConvEpilogue& e, const Tensor& y) {
  product_forward(by_precision(), g, x, w, e, y);
}
void data_gradient(const ConvGeometry& g, const Tensor& dy, const Tensor& w, const ConvEpilogue& e, const Tensor& dx) {
  product_data_gradient(by_precision(), g, dy, w, e, dx);
}
void weight_gradient(const ConvGeometry& g, const Tensor& x, const Tensor& dy, const Tensor& dw) {
  product_weight_gradient(by_precision(), g, x, dy, dw);
}
int tiles(ConvPass pass) { return int(pass == ConvPass::weight_gradient ? std::size(pixel_shapes) : std::size(tap_shapes)); }

}  // namespace glia::GPU_NS::mma_conv
