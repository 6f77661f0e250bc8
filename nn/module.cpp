#include "nn/module.h"

#include <algorithm>
#include <utility>

#include "autograd/tape.h"
#include "kernels/packed_filter.h"

namespace glia {
namespace {

thread_local bool without_initial_values = false;

std::vector<std::string> sorted_head(std::vector<std::string> names, size_t limit) {
  std::sort(names.begin(), names.end());
  if (names.size() > limit) {
    const size_t more = names.size() - limit;
    names.resize(limit);
    names.push_back(fmt::format("and {} more", more));
  }
  return names;
}

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : sorted_head(names, 8)) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

WithoutInitialValues::WithoutInitialValues() : before_(std::exchange(without_initial_values, true)) {}
WithoutInitialValues::~WithoutInitialValues() { without_initial_values = before_; }

Tensor to_checkpoint(const Tensor& t, ParameterLayout layout) {
  const Tensor host = t.to(Device{});
  switch (layout.kind) {
    case ParameterLayout::Kind::same: return host.shares_data_with(t) ? host.clone() : host;
    case ParameterLayout::Kind::filter: return permuted(host, {0, 3, 1, 2});
    case ParameterLayout::Kind::pooled:
      return permuted(host.reshape({t.dim(0), layout.pixels, t.dim(1) / layout.pixels}), {0, 2, 1}).reshape(t.shape());
  }
  throw InternalError("layout {}", int(layout.kind));
}

// A tensor of another rank or size than the layout's is given back as it is: its shape is the caller's error to tell.
Tensor from_checkpoint(const Tensor& t, ParameterLayout layout) {
  if (layout.kind == ParameterLayout::Kind::filter && t.rank() == 4) return permuted(t, {0, 2, 3, 1});
  if (layout.kind == ParameterLayout::Kind::pooled && t.rank() == 2 && t.dim(1) % layout.pixels == 0)
    return permuted(t.reshape({t.dim(0), t.dim(1) / layout.pixels, layout.pixels}), {0, 2, 1}).reshape(t.shape());
  return t;
}

void Module::visit(const std::string& prefix, const std::function<void(const std::string&, Module&)>& f) {
  f(prefix, *this);
  for (const Child& child : children_) child.module->visit(prefix + child.name + ".", f);
}

std::vector<NamedTensor> Module::parameters() {
  std::vector<NamedTensor> all;
  visit("", [&](const std::string& prefix, Module& m) {
    for (const NamedTensor& p : m.parameters_) all.push_back({prefix + p.name, p.tensor, p.rule, m.is_norm()});
  });
  return all;
}

std::vector<NamedTensor> Module::buffers() {
  std::vector<NamedTensor> all;
  visit("", [&](const std::string& prefix, Module& m) {
    for (const NamedTensor& b : m.buffers_) all.push_back({prefix + b.name, b.tensor, b.rule, m.is_norm()});
  });
  return all;
}

int64_t Module::parameter_count() {
  int64_t count = 0;
  for (const NamedTensor& p : parameters()) count += p.tensor->size();
  return count;
}

void Module::freeze() {
  for (const NamedTensor& p : parameters()) p.tensor->set_grad_record(nullptr);
}

void Module::train(bool on) {
  visit("", [on](const std::string&, Module& m) { m.training_ = on; });
}

void Module::initialize(uint64_t seed) {
  for (const NamedTensor& p : parameters()) glia::initialize(*p.tensor, p.rule.initializer, p.rule.fans, seed, p.name);
  weights_changed();
}

void Module::to(Device device) {
  std::vector<NamedTensor> all = parameters();
  for (const NamedTensor& b : buffers())
    if (is_floating(b.tensor->dtype())) all.push_back(b);
  for (const NamedTensor& t : all) {
    Tensor moved = t.tensor->to(device);
    moved.set_grad_record(t.tensor->grad_record());
    *t.tensor = moved;
  }
  device_ = device;
}

void Module::set_random(uint64_t seed, int64_t step) {
  visit("", [&](const std::string& prefix, Module& m) { m.draw_ = {seed, fnv1a(prefix), step}; });
}

StateDict Module::state_dict() {
  StateDict state;
  for (const NamedTensor& p : parameters()) state[p.name] = to_checkpoint(p.tensor->detach(), p.rule.layout);
  for (const NamedTensor& b : buffers()) state[b.name] = to_checkpoint(*b.tensor, b.rule.layout);
  return state;
}

std::vector<std::string> Module::load_state_dict(const StateDict& state, std::string_view source, bool strict) {
  std::vector<NamedTensor> wanted = parameters();
  for (const NamedTensor& b : buffers()) wanted.push_back(b);
  std::vector<std::string> missing, unknown;
  std::vector<Tensor> values;
  for (const NamedTensor& want : wanted) {
    const auto found = state.find(want.name);
    if (found == state.end()) {
      missing.push_back(want.name);
      continue;
    }
    const Tensor value = from_checkpoint(found->second, want.rule.layout);
    if (!same_shape(value, *want.tensor))
      throw DataError("{}: {} is {}, the model wants {} (another width, depth or number of classes?)", source, want.name,
                      found->second.shape(), to_checkpoint(*want.tensor, want.rule.layout).shape());
    values.push_back(value.cast(want.tensor->dtype()));
  }
  if (!missing.empty()) throw DataError("{}: not in it: {} (a checkpoint of another model?)", source, list(missing));
  for (const auto& entry : state) {
    const auto same = [&](const NamedTensor& want) { return want.name == entry.first; };
    if (std::none_of(wanted.begin(), wanted.end(), same)) unknown.push_back(entry.first);
  }
  if (strict && !unknown.empty())
    throw DataError("{}: the model has no {} (a checkpoint of another model?)", source, list(unknown));
  for (size_t i = 0; i < wanted.size(); ++i) wanted[i].tensor->copy_from(values[i]);
  weights_changed();
  return unknown;
}

void Module::add_parameter(std::string name, Tensor& member, const Shape& shape, ParameterRule rule) {
  member = Tensor(shape);
  if (!without_initial_values) glia::initialize(member, rule.initializer, rule.fans, 0, name);
  require_grad(member);
  parameters_.push_back({std::move(name), &member, rule});
}

void Module::add_buffer(std::string name, Tensor& member, Tensor initial) {
  member = std::move(initial);
  buffers_.push_back({std::move(name), &member, {}});
}

void Module::add(std::string name, Module& child) { children_.push_back({std::move(name), &child}); }

}  // namespace glia
