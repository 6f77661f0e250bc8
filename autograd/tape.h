#pragma once
// The eager tape: reverse-mode differentiation by remembering each op as it runs.
// A tensor that wants a gradient has a GradRecord. apply() (autograd/apply.h) gives its output a record that points to a Node,
// which holds what backward needs and edges to the records of the inputs. Nodes die right after use.
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/op.h"

namespace glia {

struct Node;

// Invariants: a leaf (`node` null, not `freed`) keeps its gradient until zero_grad; `buffer`, if present, is where a leaf's gradient is
// put (a slice of the optimizer's arena), and `grad` is then absent or that buffer.
struct GradRecord {
  Tensor grad;  // absent until backward reaches it
  Tensor buffer;
  std::shared_ptr<Node> node;  // the op that made the tensor
  bool freed = false;          // the node was there and has been used by backward
};

// One recorded op. Owns edges to gradient records, not to tensors: whatever data backward needs is inside `pull`.
struct Node {
  const char* name;
  std::vector<std::shared_ptr<GradRecord>> inputs;  // null: no gradient wanted
  std::vector<TensorSpec> specs;                    // shape and type of each gradient
  Device device;
  Tensor relu_output;  // of an op that ends in a ReLU: dy is zeroed where this is not above 0 before `pull` gets it
  // Inputs whose gradient `pull` can write over the input itself, zeroed where that is not above 0: the ReLU's mask of the op that
  // made it. `over` says to.
  struct Overwritable {
    Tensor* saved;
    bool* over;
  };
  std::vector<Overwritable> overwritable;  // the first inputs
  // Writes the gradient of input i to *grads[i], unless null. It is there already, of specs[i], unless the node brings its own.
  std::function<void(Tensor dy, std::span<Tensor* const> grads)> pull;
  bool brings_gradients = false;
};

inline bool wants_grad(const Tensor& t) { return t.grad_record() != nullptr; }

// Makes `t` a leaf whose gradient backward() will leave in grad_of(t). Floating point tensors only.
Tensor& require_grad(Tensor& t);
Tensor grad_of(const Tensor& t);  // absent when nothing reached it
void zero_grad(const Tensor& t);

// While it lives, apply() on this thread records nothing.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};
bool grad_enabled();

// Sees every op that this thread runs while the object lives: how the op behind a NaN is found. One at a time.
class OpObserver {
 public:
  OpObserver();
  virtual ~OpObserver();
  OpObserver(const OpObserver&) = delete;
  OpObserver& operator=(const OpObserver&) = delete;

  virtual void after_forward(const char* op, std::span<const Tensor> inputs, const Tensor& output) = 0;
  virtual void after_backward(const Node& node, std::span<const Tensor> gradients) = 0;  // absent where not wanted
};
OpObserver* op_observer();  // null, almost always

// Adds d(sum of y*dy)/d(leaf) to the gradient of every leaf that y depends on, and frees the graph. `dy` defaults to 1 for a y of
// one element. Throws when y was not recorded, or its graph has been used already.
void backward(const Tensor& y, const Tensor& dy = {});

// f(inputs), a part of a network with one output, that keeps its inputs alone for backward, which runs f once more (Chen et al.
// 2016, section 4): less memory for more time, the same bits. f must give the same each time, so it may hold no dropout and no
// norm that counts; it may use parameters, and gives up inputs that it needs no longer. Plain f(inputs) unless recomputing().
using Recomputed = std::function<Tensor(std::vector<Tensor> inputs)>;
Tensor recompute(const Recomputed& f, std::vector<Tensor> inputs);
bool recomputing();
void set_recomputing(bool on);  // run.recompute; off at first

}  // namespace glia
