#include "models/cellpose_size.h"

#include <algorithm>
#include <cmath>

#include "autograd/operators.h"
#include "data/cellpose_augment.h"
#include "data/pickle_write.h"
#include "data/weights.h"

namespace glia {
namespace {

constexpr double least_diameter = 5;  // as Cellpose
constexpr double ridge = 1;           // as Cellpose
constexpr std::string_view prefix = "size_model.";

// Solves m x = b for a symmetric positive definite m (n, n), by Cholesky's factors in place of m's lower half.
std::vector<double> solve(std::vector<double> m, std::vector<double> b) {
  const size_t n = b.size();
  const auto at = [&](size_t i, size_t j) -> double& { return m[i * n + j]; };
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j <= i; ++j) {
      double sum = at(i, j);
      for (size_t k = 0; k < j; ++k) sum -= at(i, k) * at(j, k);
      at(i, j) = i == j ? std::sqrt(sum) : sum / at(j, j);
    }
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k) b[i] -= at(i, k) * b[k];
    b[i] /= at(i, i);
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) b[i] -= at(k, i) * b[k];
    b[i] /= at(i, i);
  }
  return b;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / double(values.size());
}

bool finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

Tensor vector_tensor(const std::vector<double>& values) {
  return Tensor::from<double>({static_cast<int64_t>(values.size())}, values);
}

// From the four parts, wherever they were read.
CellposeSizeModel checked(const Tensor& A, const Tensor& smean, double diam_mean, double ymean, int64_t channels,
                          std::string_view source) {
  if (A.size() != channels || smean.size() != channels)
    throw DataError(
        "{}: a size model of styles of {} and {} numbers, the network's style has {} (another cellpose.base_channels?)", source,
        A.size(), smean.size(), channels);
  CellposeSizeModel model{A.cast(DType::float64).reshape({channels}), smean.cast(DType::float64).reshape({channels}), diam_mean,
                          ymean};
  const auto all_finite = [](const Tensor& t) {
    const auto values = t.values<double>();
    return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
  };
  if (!all_finite(model.A) || !all_finite(model.smean) || !std::isfinite(ymean) || !(diam_mean > 0) || !std::isfinite(diam_mean))
    throw DataError("{}: a size model with numbers that are not finite, or a mean diameter of {}", source, diam_mean);
  return model;
}

}  // namespace

double CellposeSizeModel::diameter(const std::vector<double>& style) const {
  GLIA_CHECK(static_cast<int64_t>(style.size()) == A.size(), "size model: a style of {} numbers, want {}", style.size(),
             A.size());
  double sum = std::log(diam_mean) + ymean;
  for (size_t i = 0; i < style.size(); ++i) sum += A.data<double>()[i] * (style[i] - smean.data<double>()[i]);
  const double found = std::exp(sum);
  return std::isnan(found) ? diam_mean : std::max(least_diameter, found);
}

void add_cellpose_size_samples(CellposeNet& net, const Tensor& image, double diameter, int64_t index,
                               const CellposeSizeWindows& how, CellposeSizeSamples& to) {
  GLIA_CHECK(image.rank() == 3 && image.dim(2) == 2, "size model: image {}, want (H, W, 2)", image.shape());
  const int64_t height = image.dim(0), width = image.dim(1);
  const Tensor with_flows = concat({image, Tensor::zeros({height, width, 2})}, 2);  // as the augmentation takes images
  for (int64_t begin = 0; begin < how.epochs; begin += how.batch_size) {
    const int64_t count = std::min(how.batch_size, how.epochs - begin);
    const Tensor batch({count, how.side, how.side, 2});
    for (int64_t i = 0; i < count; ++i) {
      const CellposeAugmentation a = draw_cellpose_augmentation({.crop = {how.side, how.side}, .scale_range = how.scale_range},
                                                                height, width, 1, how.seed, begin + i, index);
      const Tensor window = augment_cellpose_image(with_flows, a);
      float* at = batch.data<float>() + i * how.side * how.side * 2;
      for (int64_t p = 0; p < how.side * how.side; ++p)
        for (int64_t c = 0; c < 2; ++c) *at++ = window.data<float>()[4 * p + c];
      to.diameters.push_back(diameter * a.scale);
    }
    const Tensor styles = net(batch.to(net.device())).style.to(Device{});
    for (int64_t i = 0; i < count; ++i) {
      const float* style = styles.data<float>() + i * styles.dim(1);
      to.styles.emplace_back(style, style + styles.dim(1));
    }
  }
}

CellposeSizeModel fit_cellpose_size(const CellposeSizeSamples& samples, double diam_mean) {
  const size_t count = samples.styles.size();
  if (count == 0 || samples.diameters.size() != count)
    throw DataError("size model: {} styles and {} diameters to fit it to", count, samples.diameters.size());
  const size_t n = samples.styles.front().size();
  std::vector<double> y, smean(n, 0.0);
  for (size_t s = 0; s < count; ++s) {
    GLIA_CHECK(samples.styles[s].size() == n, "size model: styles of {} and {} numbers", n, samples.styles[s].size());
    y.push_back(std::log(samples.diameters[s] / diam_mean));
    for (size_t i = 0; i < n; ++i) smean[i] += samples.styles[s][i] / double(count);
  }
  const double ymean = mean_of(y);
  std::vector<double> squares(n * n, 0.0), products(n, 0.0), x(n);
  for (size_t s = 0; s < count; ++s) {
    for (size_t i = 0; i < n; ++i) x[i] = samples.styles[s][i] - smean[i];
    for (size_t i = 0; i < n; ++i) {
      products[i] += x[i] * (y[s] - ymean);
      for (size_t j = 0; j <= i; ++j) squares[i * n + j] += x[i] * x[j];
    }
  }
  for (size_t i = 0; i < n; ++i) squares[i * n + i] += ridge;
  const std::vector<double> A = solve(std::move(squares), std::move(products));
  if (!finite(A) || !std::isfinite(ymean)) throw DataError("size model: styles or diameters that are not finite");
  return {vector_tensor(A), vector_tensor(smean), diam_mean, ymean};
}

double cellpose_size_correlation(const CellposeSizeModel& model, const CellposeSizeSamples& samples) {
  std::vector<double> a, b;
  for (size_t s = 0; s < samples.styles.size(); ++s) {
    a.push_back(std::log(samples.diameters[s]));
    b.push_back(std::log(model.diameter(samples.styles[s])));
  }
  const double mean_a = mean_of(a), mean_b = mean_of(b);
  double ab = 0, aa = 0, bb = 0;
  for (size_t s = 0; s < a.size(); ++s) {
    ab += (a[s] - mean_a) * (b[s] - mean_b);
    aa += (a[s] - mean_a) * (a[s] - mean_a);
    bb += (b[s] - mean_b) * (b[s] - mean_b);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

bool is_cellpose_size(std::string_view tensor_name) { return tensor_name.starts_with(prefix); }

StateDict cellpose_size_state(const CellposeSizeModel& model) {
  const auto name = [](const char* part) { return std::string(prefix) + part; };
  return {{name("A"), model.A},
          {name("smean"), model.smean},
          {name("diam_mean"), vector_tensor({model.diam_mean})},
          {name("ymean"), vector_tensor({model.ymean})}};
}

std::optional<CellposeSizeModel> cellpose_size_of(const StateDict& state, int64_t channels, std::string_view source) {
  if (std::none_of(state.begin(), state.end(), [](const auto& entry) { return is_cellpose_size(entry.first); }))
    return std::nullopt;
  const auto part = [&](const char* name) {
    const auto found = state.find(std::string(prefix) + name);
    if (found == state.end() || found->second.size() == 0) throw DataError("{}: a size model without {}{}", source, prefix, name);
    return found->second;
  };
  const auto number = [&](const char* name) { return part(name).cast(DType::float64).data<double>()[0]; };
  return checked(part("A"), part("smean"), number("diam_mean"), number("ymean"), channels, source);
}

CellposeSizeModel read_cellpose_size(const std::filesystem::path& file, int64_t channels) {
  const Weights content = read_weights(file);
  const auto vector = [&](const char* name) {
    const StoredTensor* found = content.find(name);
    if (!found)
      throw DataError("{}: no \"{}\" in it, want a size model of Cellpose: a dict of A, smean, diam_mean, ymean", file.string(),
                      name);
    return content.load(*found);
  };
  const auto number = [&](const char* name) {  // NumPy's arrays of one number count as numbers
    const auto found = content.scalars.find(name);
    if (found == content.scalars.end()) return vector(name).cast(DType::float64).item();
    if (const auto* real = std::get_if<double>(&found->second)) return *real;
    if (const auto* integer = std::get_if<int64_t>(&found->second)) return double(*integer);
    throw DataError("{}: \"{}\" is no number", file.string(), name);
  };
  const Tensor A = vector("A"), smean = vector("smean");
  return checked(A, smean, number("diam_mean"), number("ymean"), channels, file.string());
}

std::string encode_cellpose_size(const CellposeSizeModel& model) {
  std::string file;
  const auto array = [](PickleWriter& p, const Tensor& t) {
    p.numpy_array("F64", {t.size()}, std::as_bytes(std::span(t.data<double>(), static_cast<size_t>(t.size()))));
  };
  write_numpy_object(
      [&](PickleWriter& p) {
        p.dict().begin().text("A");
        array(p, model.A);
        p.text("smean");
        array(p, model.smean);
        p.text("diam_mean").real(model.diam_mean).text("ymean").real(model.ymean).set_items();
      },
      [&](const std::string& part) { file += part; });
  return file;
}

}  // namespace glia
