#pragma once
// Parity with other systems: a walker runs every case of every fixture in GLIA_FIXTURES (default tests/fixtures) through the
// handler of its op. An op without a handler fails. Fixtures keep their source's layout: NCHW, filters KCRS.
//
//   PARITY_OP(conv2d) {
//     Tensor x = c.grad_input("x", to_nhwc), w = c.grad_input("w", to_nhwc);
//     const Tensor y = apply(Conv2d{...}, x, w, ...);
//     c.check("y", y, to_nchw);
//     c.backward(y, "y", to_nhwc);              // with the fixture's cotangent
//     c.check_grad("x", x, to_nchw);
//   }
#include <rapidjson/document.h>

#include <map>
#include <string>
#include <vector>

#include "autograd/apply.h"
#include "data/safetensors.h"

namespace glia::tests {

using Axes = std::vector<int>;
inline const Axes to_nhwc{0, 2, 3, 1};  // also KCRS to KRSC
inline const Axes to_nchw{0, 3, 1, 2};

class ParityCase {
 public:
  ParityCase(const SafetensorsFile& file, const rapidjson::Value& description);

  const std::string& name() const { return name_; }
  const std::string& op() const { return op_; }
  const rapidjson::Value& description() const { return description_; }
  const rapidjson::Value& params() const { return description_["params"]; }

  bool has(const std::string& key) const;  // "in/b", "out/y", "gout/y", "gin/x": whole or sampled
  // As stored, or permuted; absent if the case lacks it. 16-bit and small integers arrive as the wider type of the reader.
  Tensor input(const std::string& name, const Axes& axes = {}) const { return load("in/" + name, axes); }
  Tensor load_of(const std::string& other, const std::string& key) const;   // of the case named `other` in the same file
  Tensor grad_input(const std::string& name, const Axes& axes = {}) const;  // a leaf where the case has gin/NAME
  Tensor load(const std::string& key, const Axes& axes = {}) const;

  // Runs backward with gout/NAME as cotangent; without one, with 1 (a loss). Does nothing where the case has no gradients.
  void backward(const Tensor& y, const std::string& name, const Axes& axes = {}) const;

  // Compare with out/NAME and gin/NAME, whole or sampled, by the case's tolerances; `axes` permute `got` to the stored layout. A
  // missing expectation fails.
  void check(const std::string& name, const Tensor& got, const Axes& axes = {}) const;
  void check_grad(const std::string& name, const Tensor& leaf, const Axes& axes = {}) const;
  // "out/y". Sampled values may differ by `rms_share` of the tensor's root mean square if that is more than the case's tolerance, and
  // all by `least_atol`.
  void check_key(const std::string& key, const Tensor& got, double rms_share = 0, double least_atol = 0) const;
  void check_number(const std::string& name, double got) const { check(name, Tensor::full({1}, got, DType::float64)); }

  // params by name, with a default where absent.
  double number(const char* key, double otherwise) const;
  int64_t integer(const char* key, int64_t otherwise) const;
  bool flag(const char* key, bool otherwise) const;
  std::string text(const char* key, const std::string& otherwise) const;
  std::vector<int64_t> integers(const char* key) const;

 private:
  std::pair<double, double> tolerance(const std::string& key) const;  // atol, rtol

  const SafetensorsFile& file_;
  const rapidjson::Value& description_;
  std::string name_, op_;
};

struct ParityHandler {
  void (*run)(const ParityCase&);
  bool reference_too;  // run with the reference kernels as well as with the hand-written ones
};
struct RegisterParity {
  RegisterParity(const char* op, ParityHandler handler);
};

}  // namespace glia::tests

// Runs with --kernels hand, reference, and vendor where built in.
#define PARITY_OP(op)                                                                 \
  static void parity_##op(const ::glia::tests::ParityCase& c);                        \
  static const ::glia::tests::RegisterParity register_##op(#op, {parity_##op, true}); \
  static void parity_##op([[maybe_unused]] const ::glia::tests::ParityCase& c)
// Runs with the hand-written kernels only: whole networks, and algorithms without variants.
#define PARITY_MODEL(op)                                                               \
  static void parity_##op(const ::glia::tests::ParityCase& c);                         \
  static const ::glia::tests::RegisterParity register_##op(#op, {parity_##op, false}); \
  static void parity_##op([[maybe_unused]] const ::glia::tests::ParityCase& c)
