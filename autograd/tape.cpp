#include "autograd/tape.h"

#include <algorithm>
#include <atomic>
#include <unordered_set>

#include "kernels/optimizer.h"
#include "kernels/unary.h"

namespace glia {
namespace {

using Edge = std::shared_ptr<GradRecord>;

thread_local bool recording = true;
thread_local OpObserver* observer = nullptr;
std::atomic<bool> recomputing_now = false;

void accumulate(Tensor& into, const Tensor& x) {
  GLIA_CHECK(same_shape(into, x), "backward: a gradient of {} into one of {}", x.shape(), into.shape());
  AddInPlace::forward.pick(into.device(), into.dtype())({}, x, into);
}

void check_unused(const GradRecord& record) {
  GLIA_CHECK(!record.freed, "backward: this graph was used and freed by an earlier backward; run forward again");
}

// Depth-first post-order without recursion, so that a deep network cannot overflow the stack.
std::vector<Edge> topological_order(const Edge& root) {
  std::vector<Edge> order;
  std::unordered_set<const GradRecord*> seen{root.get()};
  std::vector<std::pair<Edge, size_t>> stack{{root, 0}};
  while (!stack.empty()) {
    auto& [record, next] = stack.back();
    check_unused(*record);
    if (record->node && next < record->node->inputs.size()) {
      Edge child = record->node->inputs[next++];
      if (child && seen.insert(child.get()).second) stack.emplace_back(std::move(child), 0);
    } else {
      order.push_back(std::move(record));
      stack.pop_back();
    }
  }
  return order;
}

// dy = 0 where y, a ReLU's output, is not above 0.
void mask_by_relu(const Tensor& y, Tensor& dy) { Relu::backward.pick(dy.device(), dy.dtype())({}, Tensor(), y, dy, &dy); }

// Input i itself as the place of its gradient, if nobody else will read it, or add to that gradient: its holders are this node and the
// one that made it, to mask by. Absent if not.
Tensor gradient_over_input(const Node& node, size_t i) {
  if (i >= node.overwritable.size()) return {};
  const auto& [saved, over] = node.overwritable[i];
  const Edge& edge = node.inputs[i];
  const bool last_reader = edge.use_count() == 2;  // this node, and the list of what is to be done
  if (!last_reader || edge->grad || !edge->node || saved->holders() != 2 || edge->node->relu_output.raw() != saved->raw() ||
      !same_shape(edge->node->relu_output, *saved))
    return {};
  edge->node->relu_output = {};
  *over = true;
  return *saved;
}

// Runs one node: the first gradient that reaches a record is written in place, later ones are added.
void pull(Node& node, Tensor dy) {
  const MemoryScope scope(node.name);
  if (node.relu_output) mask_by_relu(std::exchange(node.relu_output, {}), dy);
  const size_t n = node.inputs.size();
  std::vector<Tensor> grads(n);
  std::vector<Tensor*> wanted(n, nullptr);
  for (size_t i = 0; i < n; ++i) {
    const Edge& edge = node.inputs[i];
    if (!edge) continue;
    const bool first = !edge->grad && std::find(node.inputs.begin(), node.inputs.begin() + static_cast<std::ptrdiff_t>(i),
                                                edge) == node.inputs.begin() + static_cast<std::ptrdiff_t>(i);
    if (!node.brings_gradients) grads[i] = gradient_over_input(node, i);
    if (!node.brings_gradients && !grads[i])
      grads[i] = first && edge->buffer ? edge->buffer : Tensor(node.specs[i].shape, node.specs[i].dtype, node.device);
    wanted[i] = &grads[i];
  }
  node.pull(std::move(dy), wanted);
  if (observer) observer->after_backward(node, grads);
  for (size_t i = 0; i < n; ++i) {
    if (!wanted[i]) continue;
    GradRecord& record = *node.inputs[i];
    if (record.grad) {
      accumulate(record.grad, grads[i]);
    } else {
      if (node.brings_gradients && record.buffer) record.buffer.copy_from(grads[i]);
      record.grad = node.brings_gradients && record.buffer ? record.buffer : std::move(grads[i]);
    }
  }
}

// From a root that has its gradient to the leaves.
void run_backward(const Edge& root) {
  std::vector<Edge> order = topological_order(root);
  for (; !order.empty(); order.pop_back()) {
    GradRecord& record = *order.back();
    if (!record.node) continue;  // a leaf keeps its gradient
    Tensor gradient = std::exchange(record.grad, {});
    const auto node = std::exchange(record.node, nullptr);  // frees the saved tensors right after their last use
    record.freed = true;
    if (gradient) pull(*node, std::move(gradient));
  }
}

}  // namespace

Tensor& require_grad(Tensor& t) {
  GLIA_CHECK(is_floating(t.dtype()), "require_grad: {} has no gradient", name_of(t.dtype()));
  t.set_grad_record(std::make_shared<GradRecord>());
  return t;
}

Tensor grad_of(const Tensor& t) { return t.grad_record() ? t.grad_record()->grad : Tensor(); }

void zero_grad(const Tensor& t) {
  if (t.grad_record()) t.grad_record()->grad = {};
}

NoGrad::NoGrad() : previous_(std::exchange(recording, false)) {}
NoGrad::~NoGrad() { recording = previous_; }
bool grad_enabled() { return recording; }

OpObserver::OpObserver() {
  GLIA_CHECK(!observer, "tape: a second observer on one thread");
  observer = this;
}
OpObserver::~OpObserver() { observer = nullptr; }
OpObserver* op_observer() { return observer; }

void backward(const Tensor& y, const Tensor& dy) {
  GLIA_CHECK(wants_grad(y), "backward: no gradient was recorded for this value (is it inside NoGrad, or without parameters?)");
  GLIA_CHECK(dy || y.size() == 1, "backward: y is {}; without dy it must be one number", y.shape());
  GLIA_CHECK(!dy || same_shape(y, dy), "backward: dy is {}, y is {}", dy.shape(), y.shape());
  GradRecord& root = *y.grad_record();
  check_unused(root);
  const Tensor seed = dy ? dy.detach() : Tensor::full(y.shape(), 1.0, y.dtype(), y.device());
  if (root.grad) {
    accumulate(root.grad, seed);
  } else {
    root.grad = root.buffer ? root.buffer : seed.clone();
    if (root.buffer) root.buffer.copy_from(seed);
  }
  run_backward(y.grad_record());
}

bool recomputing() { return recomputing_now.load(std::memory_order_relaxed); }
void set_recomputing(bool on) { recomputing_now.store(on, std::memory_order_relaxed); }

Tensor recompute(const Recomputed& f, std::vector<Tensor> inputs) {
  if (!recomputing() || !grad_enabled()) return f(std::move(inputs));
  auto node = std::make_shared<Node>();
  node->name = "recompute";
  node->device = inputs.at(0).device();
  std::vector<Tensor> kept;
  bool wanted = false;
  for (const Tensor& x : inputs) {
    node->inputs.push_back(x.grad_record());
    node->specs.push_back({x.shape(), x.dtype()});
    kept.push_back(x.detach());
    wanted = wanted || wants_grad(x);
  }
  inputs.clear();
  Tensor y;
  if (wanted) {
    const NoGrad no_grad;
    y = f(kept);
  } else {  // whether f has parameters that want a gradient is seen when it runs
    y = f(kept);
    if (!wants_grad(y)) return y;
    y = y.detach();  // what f recorded dies here
  }
  node->brings_gradients = true;
  node->pull = [f, kept](Tensor dy, std::span<Tensor* const> grads) {
    std::vector<Tensor> again;
    std::vector<Edge> edges(kept.size());
    for (size_t i = 0; i < kept.size(); ++i) {
      again.push_back(kept[i].detach());
      if (grads[i]) edges[i] = require_grad(again.back()).grad_record();
    }
    const Edge root = f(std::move(again)).grad_record();
    root->grad = std::move(dy);
    run_backward(root);
    for (size_t i = 0; i < kept.size(); ++i) {
      if (!grads[i]) continue;
      *grads[i] = std::exchange(edges[i]->grad, {});
      if (!*grads[i]) *grads[i] = Tensor::zeros(kept[i].shape(), kept[i].dtype(), kept[i].device());
    }
  };
  auto record = std::make_shared<GradRecord>();
  record->node = std::move(node);
  y.set_grad_record(std::move(record));
  return y;
}

}  // namespace glia
