#include "models/weight_names_keras.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <optional>

#include "tensor/error.h"

namespace glia {
namespace {

struct Variable {
  std::string layer, role;  // conv2d_3, weight
};

std::vector<std::string> split(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    parts.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

// "conv2d_3" -> "conv2d", 3; a name that Keras did not give: nothing.
std::optional<std::pair<std::string, int64_t>> numbered(const std::string& layer) {
  for (const std::string kind : {"conv2d_transpose", "conv2d", "batch_normalization", "dense"}) {
    if (layer == kind) return {{kind, 0}};
    if (!layer.starts_with(kind + "_")) continue;
    int64_t number = 0;
    const char* end = layer.data() + layer.size();
    const auto [at, error] = std::from_chars(layer.data() + kind.size() + 1, end, number);
    if (error == std::errc{} && at == end && number > 0) return {{kind, number}};
  }
  return std::nullopt;
}

// Variables of a layer in the order of .weights.h5, and how many of them a kind of layer has.
const std::vector<std::string> by_place{"weight", "bias", "running_mean", "running_var"};
size_t roles_of(const std::string& kind) { return kind == "batch_normalization" ? 4 : 2; }

std::optional<Variable> variable(const std::string& name) {
  static const std::map<std::string, std::string> roles{{"kernel", "weight"},
                                                        {"bias", "bias"},
                                                        {"gamma", "weight"},
                                                        {"beta", "bias"},
                                                        {"moving_mean", "running_mean"},
                                                        {"moving_variance", "running_var"}};
  const std::vector<std::string> parts = split(name);
  if (parts.size() == 4 && (parts[0] == "layers" || parts[0] == "_layer_checkpoint_dependencies") && parts[2] == "vars") {
    const auto kind = numbered(parts[1]);
    const size_t known = roles_of(kind ? kind->first : "");
    for (size_t i = 0; i < known; ++i)
      if (parts[3] == std::to_string(i)) return {{parts[1], by_place[i]}};
    return std::nullopt;
  }
  std::string last = parts.back();
  if (last.ends_with(":0")) last.resize(last.size() - 2);
  const auto role = roles.find(last);
  if (parts.size() < 2 || role == roles.end()) return std::nullopt;
  return {{parts[0], role->second}};
}

// New names of the layers whose names Keras gave.
std::map<std::string, std::string> renumbered(const Weights& weights) {
  std::map<std::string, int64_t> place;
  for (const char* prefix : {"layer_names/", "model_weights/layer_names/"})
    for (const auto& [key, value] : weights.scalars)
      if (key.starts_with(prefix) && std::holds_alternative<std::string>(value))
        place.emplace(std::get<std::string>(value), std::atoll(key.c_str() + std::string_view(prefix).size()));
  std::map<std::string, std::map<std::pair<int64_t, int64_t>, std::string>> kinds;
  for (const StoredTensor& t : weights.tensors) {
    const auto v = variable(t.name);
    const auto kind = v ? numbered(v->layer) : std::nullopt;
    if (!kind) continue;
    const auto at = place.find(v->layer);
    kinds[kind->first][{at == place.end() ? 0 : at->second, kind->second}] = v->layer;
  }
  std::map<std::string, std::string> names;
  for (const auto& [kind, layers] : kinds) {
    int64_t i = 0;
    for (const auto& [order, layer] : layers) {
      names[layer] = i == 0 ? kind : kind + "_" + std::to_string(i);
      ++i;
    }
  }
  return names;
}

// Side a of the result is side axes[a] of t's.
void permute(StoredTensor& t, const std::vector<size_t>& axes) {
  const StoredTensor old = t;
  for (size_t a = 0; a < axes.size(); ++a) {
    t.shape[a] = old.shape[axes[a]];
    t.strides[a] = old.strides[axes[a]];
  }
}

}  // namespace

bool are_of_keras(const Weights& weights) {
  return std::any_of(weights.tensors.begin(), weights.tensors.end(), [](const StoredTensor& t) {
    return variable(t.name) &&
           (t.name.ends_with("/kernel:0") || t.name.ends_with("/kernel") || t.name.find("/vars/") != t.name.npos);
  });
}

Weights from_keras(const Weights& weights) {
  const std::map<std::string, std::string> names = renumbered(weights);
  Weights out = weights;
  out.tensors.clear();
  for (const StoredTensor& stored : weights.tensors) {
    if (stored.name.starts_with("optimizer")) continue;
    StoredTensor t = stored;
    if (const auto v = variable(t.name)) {
      const auto name = names.find(v->layer);
      t.name = (name == names.end() ? v->layer : name->second) + "." + v->role;
      if (v->role == "weight" && t.shape.size() == 4) permute(t, {3, 2, 0, 1});
      if (v->role == "weight" && t.shape.size() == 2) permute(t, {1, 0});
    }
    out.tensors.push_back(std::move(t));
  }
  std::sort(out.tensors.begin(), out.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (size_t i = 1; i < out.tensors.size(); ++i)
    if (out.tensors[i].name == out.tensors[i - 1].name)
      throw DataError("{}: two tensors become {}; models within models are not read", weights.source, out.tensors[i].name);
  return out;
}

Weights to_keras(const Weights& weights) {
  Weights out = weights;
  for (StoredTensor& t : out.tensors) {
    const size_t dot = std::min(t.name.rfind('.'), t.name.size());
    const std::string layer = t.name.substr(0, dot), role = dot < t.name.size() ? t.name.substr(dot + 1) : "";
    const auto kind = numbered(layer);
    const auto place = std::find(by_place.begin(), by_place.end(), role);
    const auto i = static_cast<size_t>(place - by_place.begin());
    if (!kind || i >= roles_of(kind->first))
      throw DataError(
          "{}: \"{}\" is of no layer that Keras has; written for it are networks of conv2d, conv2d_transpose, "
          "batch_normalization and dense, such as unet_keras and unet_dsb",
          weights.source, t.name);
    if (role == "weight" && t.shape.size() == 4) permute(t, {2, 3, 1, 0});
    if (role == "weight" && t.shape.size() == 2) permute(t, {1, 0});
    t.name = "layers/" + layer + "/vars/" + std::to_string(i);
  }
  std::sort(out.tensors.begin(), out.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

}  // namespace glia
