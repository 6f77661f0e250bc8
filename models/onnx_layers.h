#pragma once
// Layers of networks as ONNX nodes, weights by the names of a network's state. Values are named by the node that gives them.
#include <set>
#include <string>
#include <vector>

#include "data/onnx.h"
#include "nn/layers.h"

namespace glia {

class OnnxLayers {
 public:
  using Names = std::vector<std::string>;

  explicit OnnxLayers(const StateDict& state) : state_(state) {}

  // Convolution with `name`.weight and, where there is one, `name`.bias. Pads `before` at the top and the left, `after` at the
  // bottom and the right. InternalError here and below for weights that the state lacks.
  std::string conv(const std::string& x, const std::string& name, int64_t stride, int64_t before, int64_t after);
  // The same, padded by half the kernel.
  std::string conv(const std::string& x, const std::string& name, int64_t stride = 1);
  std::string up_conv(const std::string& x, const std::string& name);  // transposed, 2x2, stride 2

  // Evaluation's norm with the weights `name`.weight, ...; gives x back where there is none.
  std::string norm(const std::string& x, const std::string& name, nn::NormKind kind, double eps = 1e-5);
  std::string relu(const std::string& x) { return graph.node("Relu", {x}); }
  std::string add(const std::string& x, const std::string& y) { return graph.node("Add", {x, y}); }
  std::string concat(const Names& parts) { return graph.node("Concat", parts, {{"axis", int64_t{1}}}); }
  std::string max_pool(const std::string& x, int64_t kernel, int64_t stride, int64_t pad = 0, std::string name = "");
  std::string nearest(const std::string& x);                          // twice the size
  std::string bilinear(const std::string& x);                         // twice the size, corners on corners
  std::string crop(const std::string& x, int64_t margin);             // drops that many pixels at each edge
  std::string pad_to(const std::string& x, const std::string& like);  // zeros at the bottom and the right

  OnnxGraph graph;

 private:
  const Tensor& at(const std::string& name) const;
  std::string tensor(const std::string& name) { return graph.constant(name, at(name).cast(DType::float32)); }
  Names weights(const std::string& x, const std::string& name);
  std::string integers(const std::string& name, const std::vector<int64_t>& values);
  std::string floats(const std::string& name, const std::vector<float>& values);
  std::string resize(const std::string& x, const OnnxAttributes& how);
  std::string group_norm(const std::string& x, const std::string& name, double eps);

  const StateDict& state_;
  std::set<std::string> known_;  // constants that several nodes share
};

}  // namespace glia
