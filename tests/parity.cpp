#include "tests/parity.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "tests/paths.h"

namespace glia::tests {
namespace {

std::map<std::string, ParityHandler>& handlers() {
  static std::map<std::string, ParityHandler> table;
  return table;
}

struct Mismatch {
  double excess = -INFINITY;  // largest |got - want| - rtol |want| - atol
  int64_t at = 0;
  double got = 0, want = 0;

  void add(int64_t i, double g, double w, double atol, double rtol) {
    if (g == w || (std::isnan(g) && std::isnan(w))) return;
    const double e = std::abs(g - w) - rtol * std::abs(w) - atol;
    if (std::isnan(e) || e > excess) *this = {std::isnan(e) ? INFINITY : e, i, g, w};
  }
};

double slack = 1;  // factor of all tolerances

}  // namespace

RegisterParity::RegisterParity(const char* op, ParityHandler handler) { handlers()[op] = handler; }

ParityCase::ParityCase(const SafetensorsFile& file, const rapidjson::Value& description)
    : file_(file), description_(description), name_(description["name"].GetString()), op_(description["op"].GetString()) {}

bool ParityCase::has(const std::string& key) const {
  return file_.contains(name_ + "/" + key) || file_.contains(name_ + "/" + key + "@val");
}

Tensor ParityCase::load(const std::string& key, const Axes& axes) const {
  if (!file_.contains(name_ + "/" + key)) return {};
  const Tensor t = file_.load(name_ + "/" + key);
  return axes.empty() ? t : permuted(t, axes);
}

Tensor ParityCase::load_of(const std::string& other, const std::string& key) const { return file_.load(other + "/" + key); }

Tensor ParityCase::grad_input(const std::string& name, const Axes& axes) const {
  Tensor t = input(name, axes);
  if (t && has("gin/" + name)) require_grad(t);
  return t;
}

void ParityCase::backward(const Tensor& y, const std::string& name, const Axes& axes) const {
  if (!wants_grad(y)) return;
  const Tensor dy = load("gout/" + name, axes);
  glia::backward(y, dy ? dy.cast(y.dtype()).reshape(y.shape()) : Tensor());
}

void ParityCase::check(const std::string& name, const Tensor& got, const Axes& axes) const {
  check_key("out/" + name, axes.empty() ? got : permuted(got, axes));
}

void ParityCase::check_grad(const std::string& name, const Tensor& leaf, const Axes& axes) const {
  if (!has("gin/" + name)) return;
  const Tensor gradient = grad_of(leaf);
  INFO("gin/", name);
  REQUIRE(gradient);
  check_key("gin/" + name, axes.empty() ? gradient : permuted(gradient, axes));
}

void ParityCase::check_key(const std::string& key, const Tensor& got, double rms_share, double least_atol) const {
  const std::string full = name_ + "/" + key;
  INFO(key, " has shape ", to_string(got.shape()));
  REQUIRE(has(key));
  const auto [case_atol, rtol] = tolerance(key);
  const double atol = std::max(case_atol, least_atol);
  // Larger rounding errors flip more ReLUs whose inputs are next to zero, and single elements of gradients with them.
  if (slack > 1 && key.starts_with("gin/")) rms_share = std::max(rms_share, 0.05);
  const Tensor values = got.cast(DType::float64);
  const double* g = values.data<double>();
  Mismatch worst;
  if (file_.contains(full)) {
    const Tensor want = file_.load(full).cast(DType::float64);
    INFO("want shape ", to_string(want.shape()));
    REQUIRE(want.size() == got.size());
    double squares = 0;
    for (int64_t i = 0; i < want.size(); ++i) squares += want.data<double>()[i] * want.data<double>()[i];
    const double whole_atol = std::max(atol, rms_share * std::sqrt(squares / std::max<double>(1, double(want.size()))));
    for (int64_t i = 0; i < want.size(); ++i) worst.add(i, g[i], want.data<double>()[i], whole_atol, rtol);
  } else {
    const Tensor at = file_.load(full + "@idx").cast(DType::int64), want = file_.load(full + "@val").cast(DType::float64);
    const Tensor stat = file_.load(full + "@stat").cast(DType::float64);
    REQUIRE(stat.data<double>()[0] == double(got.size()));
    const double sampled_atol = std::max(atol, rms_share * stat.data<double>()[2]);
    for (int64_t i = 0; i < want.size(); ++i) {
      const int64_t j = at.data<int64_t>()[i];
      REQUIRE((j >= 0 && j < got.size()));
      worst.add(j, g[j], want.data<double>()[i], sampled_atol, rtol);
    }
    double sum = 0, squares = 0, largest = 0;
    for (int64_t i = 0; i < got.size(); ++i) {
      sum += g[i];
      squares += g[i] * g[i];
      largest = std::max(largest, std::abs(g[i]));
    }
    const double n = std::max<double>(1, double(got.size()));
    worst.add(-1, sum / n, stat.data<double>()[1], atol, rtol);
    worst.add(-2, std::sqrt(squares / n), stat.data<double>()[2], atol, rtol);
    worst.add(-3, largest, stat.data<double>()[3], sampled_atol, rtol);
  }
  INFO(key, ": got ", worst.got, ", want ", worst.want, " at ", worst.at, " (-1 mean, -2 rms, -3 max); atol ", atol, ", rtol ",
       rtol);
  CHECK(worst.excess <= 0);
}

std::pair<double, double> ParityCase::tolerance(const std::string& key) const {
  if (description_.HasMember("tols") && description_["tols"].HasMember(key.c_str())) {
    const auto& pair = description_["tols"][key.c_str()];
    return {slack * pair[0].GetDouble(), slack * pair[1].GetDouble()};
  }
  return {slack * description_["atol"].GetDouble(), slack * description_["rtol"].GetDouble()};
}

double ParityCase::number(const char* key, double otherwise) const {
  return params().HasMember(key) && params()[key].IsNumber() ? params()[key].GetDouble() : otherwise;
}
int64_t ParityCase::integer(const char* key, int64_t otherwise) const {
  return params().HasMember(key) && params()[key].IsNumber() ? static_cast<int64_t>(params()[key].GetDouble()) : otherwise;
}
bool ParityCase::flag(const char* key, bool otherwise) const {
  return params().HasMember(key) && params()[key].IsBool() ? params()[key].GetBool() : otherwise;
}
std::string ParityCase::text(const char* key, const std::string& otherwise) const {
  return params().HasMember(key) && params()[key].IsString() ? params()[key].GetString() : otherwise;
}
std::vector<int64_t> ParityCase::integers(const char* key) const {
  std::vector<int64_t> list;
  if (!params().HasMember(key)) return list;
  if (params()[key].IsArray()) {
    for (const auto& v : params()[key].GetArray()) list.push_back(v.GetInt64());
  } else {
    list.push_back(params()[key].GetInt64());
  }
  return list;
}

namespace {

// One way to compute a case. Tolerances are those of direct sums, 10 times as much for Winograd's (docs/performance.md).
struct Way {
  const char* label;
  KernelChoice kernels;
  Precision precision = Precision::exact;
  double slack = 1;
};

void run_case(const ParityCase& c, const ParityHandler& handler) {
  std::vector<Way> ways{{"hand, exact", KernelChoice::hand}};
  if (handler.reference_too) {
    ways.push_back({"reference", KernelChoice::reference});
#if defined(GLIA_WITH_ONEDNN)
    ways.push_back({"vendor", KernelChoice::vendor});
#endif
  } else {
#if defined(__SANITIZE_ADDRESS__)
    ways.clear();  // whole networks are slow there, and the tests of ops run the direct sums too
#endif
    ways.push_back({"hand, fp32", KernelChoice::hand, Precision::fp32, 10});
  }
  for (const Way& way : ways) {
    INFO("--kernels ", std::string(way.label));
    set_kernel_choice(way.kernels);
    set_precision(way.precision);
    slack = way.slack;
    try {
      handler.run(c);
    } catch (const std::exception& e) {
      FAIL_CHECK("threw: " << std::string(e.what()));
    }
    set_kernel_choice(KernelChoice::automatic);
    set_precision(Precision::fp32);
    slack = 1;
  }
}

}  // namespace

TEST_SUITE_BEGIN("parity");

// GLIA_PARITY=TEXT runs only the cases whose "FILE/OP/NAME" contains TEXT.
TEST_CASE("parity: every case of every fixture") {
  const char* only = std::getenv("GLIA_PARITY");
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(fixtures_folder()))
    for (const auto& entry : std::filesystem::directory_iterator(fixtures_folder()))
      if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  int cases = 0, files_with_cases = 0;
  for (const auto& path : files) {
    const SafetensorsFile file(path);
    if (!file.metadata().count("cases")) continue;
    ++files_with_cases;
    rapidjson::Document list;
    list.Parse(file.metadata().at("cases").c_str());
    REQUIRE(list.IsArray());
    int here = 0;
    for (const auto& description : list.GetArray()) {
      const ParityCase c(file, description);
      const std::string full = path.stem().string() + "/" + c.op() + "/" + c.name();
      if (only && full.find(only) == std::string::npos) continue;
      ++here;
      INFO(full);
      const auto handler = handlers().find(c.op());
      if (handler == handlers().end()) {
        FAIL_CHECK("no handler for the op " << c.op());
        continue;
      }
      run_case(c, handler->second);
    }
    MESSAGE(path.filename().string() << ": " << here << " cases");
    cases += here;
  }
  INFO("fixtures in ", fixtures_folder().string());
  CHECK(files_with_cases > 0);
  CHECK(cases > 0);
}

TEST_SUITE_END();

}  // namespace glia::tests
