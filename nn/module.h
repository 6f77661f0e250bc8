#pragma once
// Module: a tree of layers with named parameters and buffers. A module owns its tensors as members, tells the base class about
// them and about its children in its constructor, and has whatever forward functions suit it.
//
//   struct Head : Module {
//     Conv2dLayer conv{...};
//     Head() { add("conv", conv); }
//     Tensor operator()(const Tensor& x) { return conv(x); }
//   };
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "nn/init.h"
#include "tensor/tensor.h"

namespace glia {

// How a tensor is laid out in checkpoints (PyTorch's layout) compared with here.
struct ParameterLayout {
  enum class Kind : uint8_t { same, filter, pooled };
  Kind kind = Kind::same;
  int64_t pixels = 0;

  static const ParameterLayout same;
  static const ParameterLayout filter;  // KCRS there, KRSC here; transposed filters (CKRS there, CRSK here) are permuted alike
  // A linear layer over small images of so many pixels: columns (channel, pixel) there, (pixel, channel) here.
  static constexpr ParameterLayout pooled(int64_t pixels) { return {Kind::pooled, pixels}; }
};
inline constexpr ParameterLayout ParameterLayout::same{};
inline constexpr ParameterLayout ParameterLayout::filter{Kind::filter};
Tensor to_checkpoint(const Tensor& t, ParameterLayout layout);
Tensor from_checkpoint(const Tensor& t, ParameterLayout layout);

struct ParameterRule {
  ParameterLayout layout{};
  Initializer initializer = Initializer::zeros;
  Fans fans{};
};

// One parameter or buffer of a tree. `tensor` points into the module, which must outlive this.
struct NamedTensor {
  std::string name;  // dotted path from the module that was asked
  Tensor* tensor = nullptr;
  ParameterRule rule{};
  bool of_norm = false;  // a norm layer's
};

using StateDict = std::map<std::string, Tensor>;

// Invariants: registered tensors and children are members of the object, which therefore can neither be copied nor moved; a
// parameter has a gradient record unless it is frozen, a buffer has none.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Own ones first, then the children's, in order of registration: the order of PyTorch's state dict.
  std::vector<NamedTensor> parameters();
  std::vector<NamedTensor> buffers();
  int64_t parameter_count();

  // From now on the parameters of this tree take no gradient, and optimizers made later leave them alone. They are drawn, moved,
  // saved and loaded like all others.
  void freeze();

  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }
  virtual bool is_norm() const { return false; }  // a norm layer: optimizers may leave its parameters without weight decay

  // Draws all parameters anew by their rules. On the host: before to().
  void initialize(uint64_t seed);
  // Moves parameters and buffers; counters (integer buffers) stay on the host. Before an optimizer takes the parameters.
  void to(Device device);
  Device device() const { return device_; }  // of the module that to() was called on
  // Names the random draws (dropout) of the next training step.
  void set_random(uint64_t seed, int64_t step);

  // Parameters and buffers under their names, in the layout of checkpoints; new data, on the host.
  StateDict state_dict();
  // Copies in whatever the tree holds. DataError naming `source` (a file) that lists what is missing or misshapen; `strict` also
  // refuses names that the tree does not have, else they are returned.
  std::vector<std::string> load_state_dict(const StateDict& state, std::string_view source, bool strict = true);

 protected:
  void add_parameter(std::string name, Tensor& member, const Shape& shape, ParameterRule rule);
  void add_buffer(std::string name, Tensor& member, Tensor initial);
  void add(std::string name, Module& child);

  struct Draw {
    uint64_t seed = 0;
    uint64_t stream = 0;  // of this module's own name
    int64_t step = 0;
  };
  const Draw& draw() const { return draw_; }

 private:
  void visit(const std::string& prefix, const std::function<void(const std::string& prefix, Module&)>& f);

  struct Child {
    std::string name;
    Module* module;
  };
  std::vector<NamedTensor> parameters_;
  std::vector<NamedTensor> buffers_;
  std::vector<Child> children_;
  Draw draw_;
  bool training_ = true;
  Device device_;
};

// While one lives, the parameters of modules that this thread makes are not drawn and hold anything: for a model whose weights are
// loaded next. To draw 31 million numbers takes over half a second.
class WithoutInitialValues {
 public:
  WithoutInitialValues();
  ~WithoutInitialValues();
  WithoutInitialValues(const WithoutInitialValues&) = delete;
  WithoutInitialValues& operator=(const WithoutInitialValues&) = delete;

 private:
  bool before_;
};

}  // namespace glia
