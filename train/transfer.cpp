#include "train/transfer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "nn/optimizer.h"
#include "tensor/error.h"

namespace glia {
namespace {

bool any_matches(const std::vector<std::string>& patterns, std::string_view name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& p) { return matches(p, name); });
}

// The file's tensor for a name of the model; null where there is none.
const StoredTensor* tensor_for(const Weights& weights, std::string_view name) {
  if (const StoredTensor* same = weights.find(name)) return same;
  if (!weights.match_by_suffix) return nullptr;
  for (size_t dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1))  // the longest ending first
    if (const StoredTensor* ending = weights.find(name.substr(dot + 1))) return ending;
  return nullptr;
}

bool only_rows_differ(const std::vector<int64_t>& a, std::span<const int64_t> b) {
  return !a.empty() && a.size() == b.size() && std::equal(a.begin() + 1, a.end(), b.begin() + 1);
}

void check_finite(const Tensor& t, const std::string& source, const std::string& name) {
  if (!is_floating(t.dtype())) return;
  const Tensor values = t.cast(DType::float32);
  for (const float v : values.values<float>())
    if (!std::isfinite(v)) throw DataError("{}: {} holds numbers that are not finite (a training that diverged?)", source, name);
}

void check_patterns(const InitConfig& init, const Weights& weights, const StateDict& model) {
  for (const std::string& pattern : init.ignore) {
    const auto fits = [&](const auto& names, auto name_of) {
      return std::any_of(names.begin(), names.end(), [&](const auto& n) { return matches(pattern, name_of(n)); });
    };
    if (!fits(model, [](const auto& n) { return n.first; }) && !fits(weights.tensors, [](const auto& t) { return t.name; }))
      throw UsageError("init.ignore: '{}' matches no tensor of the model (such as {}) nor of {}", pattern,
                       model.empty() ? "" : model.begin()->first, weights.source);
  }
}

std::string first_names(const std::vector<std::string>& names, size_t most) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), most); ++i) text += (i ? ", " : "") + names[i];
  return names.size() > most ? text + fmt::format(" and {} more", names.size() - most) : text;
}

}  // namespace

TransferReport transfer_weights(Module& model, const Weights& weights, const InitConfig& init) {
  TransferReport report;
  report.source = weights.source;
  report.format = weights.format;
  StateDict values = model.state_dict();
  check_patterns(init, weights, values);
  std::map<const StoredTensor*, std::string> taken;
  std::set<std::string> seen;  // names of the file that the model has a place for
  for (auto& [name, own] : values) {
    const StoredTensor* stored = tensor_for(weights, name);
    if (stored) seen.insert(stored->name);
    if (any_matches(init.ignore, name) || (stored && any_matches(init.ignore, stored->name))) {
      report.ignored.push_back(name);
      continue;
    }
    if (!stored) {
      report.missing.push_back(name);
      continue;
    }
    const auto wanted = own.shape().dims();
    if (!std::equal(wanted.begin(), wanted.end(), stored->shape.begin(), stored->shape.end())) {
      if (!only_rows_differ(stored->shape, wanted))
        throw DataError("{}: {} is {}, the model wants {} (another width or depth? init.ignore leaves a tensor out)",
                        weights.source, stored->name, shape_text(stored->shape), own.shape());
      report.reinitialized.push_back(fmt::format("{} ({} in the file, {} here)", name, shape_text(stored->shape), own.shape()));
      continue;
    }
    if (const auto [other, fresh] = taken.emplace(stored, name); !fresh)
      throw DataError("{}: {} fits two tensors of the model, {} and {}", weights.source, stored->name, other->second, name);
    own = weights.load(*stored);
    check_finite(own, weights.source, stored->name);
    report.matched.push_back(name);
  }
  for (const StoredTensor& t : weights.tensors)
    if (!seen.contains(t.name)) report.unused.push_back(t.name);
  if (report.matched.empty() && report.ignored.size() < values.size())
    throw DataError("{}: none of its {} tensors fits the model: it has {}; the model wants {}", weights.source,
                    weights.tensors.size(), report.unused.empty() ? "no other names" : first_names(report.unused, 3),
                    first_names(report.missing, 3));
  model.load_state_dict(values, weights.source);
  return report;
}

std::string TransferReport::table() const {
  const size_t all = matched.size() + reinitialized.size() + missing.size() + ignored.size();
  std::string text = fmt::format("initial weights: {}, {}\n", source, format);
  text += fmt::format("  matched        {:>4} of the model's {} tensors", matched.size(), all);
  const auto row = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) text += fmt::format("\n  {:<14} {:>4}: {}", what, names.size(), first_names(names, 8));
  };
  row("re-initialised", reinitialized);
  row("missing", missing);
  row("ignored", ignored);
  row("unused", unused);
  return text;
}

}  // namespace glia
