// Synthetic microscopy: cells, the light they change, the picture that a camera takes.
#include "data/synth.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/synth_cells.h"
#include "data/synth_optics.h"

namespace glia {
namespace {

using synth::Cell;
using synth::CellKind;
using synth::Plane;

constexpr double pi = std::numbers::pi;

// Visits the pixels of the mask, and a margin of depth > low around it, that lie in the picture: visit(pixel of the plane,
// depth).
template <class Visit>
void for_each_pixel(const Cell& cell, const Plane& plane, float low, Visit&& visit) {
  for (int64_t y = std::max<int64_t>(0, -cell.top); y < std::min(cell.height, plane.height - cell.top); ++y) {
    for (int64_t x = std::max<int64_t>(0, -cell.left); x < std::min(cell.width, plane.width - cell.left); ++x) {
      const float depth = cell.depth[static_cast<size_t>(y * cell.width + x)];
      if (depth > low) visit(static_cast<size_t>((y + cell.top) * plane.width + x + cell.left), depth);
    }
  }
}

// A point of the body, uniform over an ellipse of the given relative size.
struct Spot {
  double x, y;
};
Spot spot_in(const Cell& cell, double size, Random& random) {
  const double r = size * std::sqrt(random.uniform()), t = random.uniform(0, 2 * pi);
  const double u = r * cell.long_axis * std::cos(t), v = r * cell.short_axis * std::sin(t), c = std::cos(cell.angle),
               s = std::sin(cell.angle);
  return {static_cast<double>(cell.left) + cell.x + u * c - v * s, static_cast<double>(cell.top) + cell.y + u * s + v * c};
}

struct Textures {
  Plane fine, middle;
};

// Optical thickness of one cell: a rim that rises within `edge` pixels, a dome, grain, a nucleus with nucleoli, granules.
void add_cell(Plane& phase, const Cell& cell, const CellKind& kind, const Textures& textures, Random& random) {
  const double lift = std::exp(0.22 * random.normal());
  if (cell.rounded) {  // a ball: high, smooth, some with a collapsed, grainy inside
    const float radius = static_cast<float>(cell.short_axis),
                top = static_cast<float>(random.uniform() < 0.45 ? random.uniform(2.5, 3.4) : random.uniform(4.4, 6));
    const float grain = static_cast<float>(random.uniform(0.05, 0.3));
    for_each_pixel(cell, phase, 0, [&](size_t i, float depth) {
      const float t = std::min(1.0f, depth / radius);
      phase.values[i] += top * std::sqrt(t * (2 - t)) * (1 + grain * textures.fine.values[i]);
    });
    return;
  }
  const float thickness = static_cast<float>(kind.thickness * lift), edge = static_cast<float>(kind.edge);
  const float dome = static_cast<float>(std::max(3.0, cell.short_axis)), grain = static_cast<float>(kind.texture);
  for_each_pixel(cell, phase, 0, [&](size_t i, float depth) {
    const float rim = 1 - std::exp(-depth / edge);
    const float body = 0.62f + 0.38f * std::min(1.0f, depth / dome);
    phase.values[i] +=
        thickness * rim * body * (1 + grain * rim * (0.8f * textures.fine.values[i] + 0.7f * textures.middle.values[i]));
  });

  // The nucleus is thicker or thinner than the plasma around it by little; what shows is its smoothness, its rim, its nucleoli.
  const double nucleus = random.uniform(0.38, 0.52) * cell.short_axis;
  const Spot middle = spot_in(cell, 0.2, random);
  synth::add_dot(phase, middle.x, middle.y, std::max(1.2, nucleus * 0.75), -0.28 * thickness);
  const int nucleoli = 1 + static_cast<int>(random.below(3));
  for (int i = 0; i < nucleoli && cell.short_axis > 5; ++i) {
    const double t = random.uniform(0, 2 * pi), r = random.uniform(0, 0.55) * nucleus;
    synth::add_dot(phase, middle.x + r * std::cos(t), middle.y + r * std::sin(t), random.uniform(0.8, 1.25),
                   random.uniform(0.35, 0.7) * thickness);
  }
  const int granules = static_cast<int>(static_cast<double>(cell.area) / 100 * kind.granules * random.uniform(0.4, 1.6));
  for (int i = 0; i < granules; ++i) {
    const Spot p = spot_in(cell, 0.85, random);
    const double dx = p.x - middle.x, dy = p.y - middle.y;
    if (dx * dx + dy * dy < nucleus * nucleus) continue;
    const double strength = random.uniform() < 0.68 ? random.uniform(0.2, 0.6) : -random.uniform(0.2, 0.5);
    synth::add_dot(phase, p.x, p.y, random.uniform(0.6, 1.05), strength * thickness);
  }
}

// Thin, beaded processes that wander over the picture; annotators leave them out of the masks.
void add_neurites(Plane& phase, const Cell& cell, const CellKind& kind, Random& random) {
  int count = static_cast<int>(std::floor(kind.neurites + random.uniform()));
  for (; count > 0 && !cell.rounded; --count) {
    const double angle = random.uniform(0, 2 * pi), r = 0.8 * cell.short_axis,
                 length = 25 * std::exp(0.8 * random.normal() + 0.6);
    const double x = static_cast<double>(cell.left) + cell.x + r * std::cos(angle),
                 y = static_cast<double>(cell.top) + cell.y + r * std::sin(angle);
    const auto path = synth::make_path(x, y, angle, std::min(length, 260.0), {0.35, random.uniform(0.9, 1.5)}, 0.07, random);
    std::vector<float> drawn;
    const float height = static_cast<float>(random.uniform(0.14, 0.3));
    // Drawn piece by piece: the maximum over neighbouring pieces, so that joints do not show.
    const double reach = 4;
    double left = 1e9, top = 1e9, right = -1e9, bottom = -1e9;
    for (const auto& p : path) {
      left = std::min(left, p.x - reach), right = std::max(right, p.x + reach);
      top = std::min(top, p.y - reach), bottom = std::max(bottom, p.y + reach);
    }
    const int64_t x0 = std::max<int64_t>(0, static_cast<int64_t>(left)),
                  x1 = std::min(phase.width, static_cast<int64_t>(right) + 1);
    const int64_t y0 = std::max<int64_t>(0, static_cast<int64_t>(top)),
                  y1 = std::min(phase.height, static_cast<int64_t>(bottom) + 1);
    if (x0 >= x1 || y0 >= y1) continue;
    drawn.assign(static_cast<size_t>((x1 - x0) * (y1 - y0)), 0.0f);
    synth::draw_path(path, y1 - y0, x1 - x0, -static_cast<double>(x0), -static_cast<double>(y0),
                     [&](size_t i, float depth) { drawn[i] = std::max(drawn[i], std::clamp(0.5f + 0.55f * depth, 0.0f, 1.0f)); });
    for (int64_t py = y0; py < y1; ++py) {
      for (int64_t px = x0; px < x1; ++px)
        phase.at(py, px) += height * drawn[static_cast<size_t>((py - y0) * (x1 - x0) + px - x0)];
    }
    for (size_t i = 6; i + 1 < path.size(); i += 4 + random.below(12)) {
      synth::add_dot(phase, path[i].x, path[i].y, random.uniform(0.8, 1.5), random.uniform(0.15, 0.5));
    }
  }
}

// Specks, fragments and out-of-focus matter between the cells.
void add_debris(Plane& phase, const CellKind& kind, double density, Random& random) {
  const double height = static_cast<double>(phase.height), width = static_cast<double>(phase.width);
  const auto count = static_cast<int64_t>(kind.debris * density * random.uniform(0.4, 1.6) * height * width / (520.0 * 704.0));
  for (int64_t i = 0; i < count; ++i) {
    const double x = random.uniform(0, width), y = random.uniform(0, height);
    if (random.uniform() < 0.2) {  // a crumb of several specks
      const int parts = 3 + static_cast<int>(random.below(6));
      for (int j = 0; j < parts; ++j) {
        synth::add_dot(phase, x + 2.6 * random.normal(), y + 2.6 * random.normal(), random.uniform(0.7, 1.5),
                       random.uniform(-0.15, 0.55));
      }
    } else {
      synth::add_dot(phase, x, y, random.uniform(0.6, 1.3), random.uniform(0.08, 0.5));
    }
  }
  const int floating = static_cast<int>(random.below(4));
  for (int i = 0; i < floating; ++i) {  // out of focus: a faint ring
    const double x = random.uniform(0, width), y = random.uniform(0, height), r = random.uniform(7, 20),
                 strength = random.uniform(-0.1, 0.1);
    synth::add_dot(phase, x, y, r, strength);
    synth::add_dot(phase, x, y, r * 0.6, -1.6 * strength);
  }
}

SynthImage assemble(const SynthOptions& options, const std::vector<Cell>& cells, int kind, Tensor picture) {
  SynthImage result;
  result.image = std::move(picture);
  result.labels = Tensor::zeros({options.height, options.width}, DType::int32);
  result.sample.height = options.height;
  result.sample.width = options.width;
  const Plane extent(options.height, options.width);
  int32_t* labels = result.labels.data<int32_t>();
  for (const Cell& cell : cells) {
    Instance instance;
    instance.mask = synth::to_rle(cell, options.height, options.width);
    instance.category = kind;
    const int32_t label = static_cast<int32_t>(result.sample.instances.size()) + 1;
    int64_t x0 = options.width, x1 = -1, y0 = options.height, y1 = -1;
    for_each_pixel(cell, extent, 0, [&](size_t i, float) {
      labels[i] = label;
      const int64_t x = static_cast<int64_t>(i) % options.width, y = static_cast<int64_t>(i) / options.width;
      x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
    });
    instance.box = {static_cast<double>(x0), static_cast<double>(y0), static_cast<double>(x1 - x0 + 1),
                    static_cast<double>(y1 - y0 + 1)};
    result.sample.instances.push_back(std::move(instance));
  }
  return result;
}

Tensor phase_picture(const SynthOptions& options, const std::vector<Cell>& cells, const CellKind& kind, uint64_t key,
                     Random& random) {
  const int64_t h = options.height, w = options.width;
  Plane phase(h, w);
  const Textures textures{synth::smooth_noise(h, w, 1.0, key, 1), synth::smooth_noise(h, w, 2.4, key, 2)};
  add_debris(phase, kind, options.density, random);
  for (const Cell& cell : cells) add_neurites(phase, cell, kind, random);
  for (const Cell& cell : cells) add_cell(phase, cell, kind, textures, random);
  // The dish itself is not flat: faint, fine mottling and a slow tilt.
  const Plane mottle = synth::smooth_noise(h, w, 3.5, key, 3);
  for (size_t i = 0; i < phase.values.size(); ++i) phase.values[i] += 0.012f * mottle.values[i];

  blur(phase, 0.6);
  Plane light = synth::phase_contrast(
      phase, {.fringe = random.uniform(2.2, 3.0), .halo = random.uniform(8, 13), .transmission = random.uniform(0.42, 0.52)});
  const Plane uneven = synth::smooth_noise(h, w, 0.22 * static_cast<double>(std::max(h, w)), key, 4);
  const Plane noise = synth::smooth_noise(h, w, 0.55, key, 5);
  const float level = static_cast<float>(random.uniform(122, 132)), gain = static_cast<float>(random.uniform(0.42, 0.52));
  const float bright_gain = 1.9f * gain;  // an objective's halo is brighter than the local mean alone makes it
  const float tilt_x = static_cast<float>(0.05 * random.normal()), tilt_y = static_cast<float>(0.05 * random.normal());
  const float grain = static_cast<float>(random.uniform(1.6, 2.6));
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w; ++x) {
      const size_t i = static_cast<size_t>(y * w + x);
      const float tilt = tilt_x * (static_cast<float>(x) / static_cast<float>(w) - 0.5f) +
                         tilt_y * (static_cast<float>(y) / static_cast<float>(h) - 0.5f);
      const float field = 1 + tilt + 0.018f * uneven.values[i];
      light.values[i] =
          level * field * (1 + (light.values[i] > 1 ? bright_gain : gain) * (light.values[i] - 1)) + grain * noise.values[i];
    }
  }
  return synth::to_picture(light);
}

// Nuclei glow; what lies out of focus glows more widely; the camera counts photons.
Tensor fluorescence_picture(const SynthOptions& options, const std::vector<Cell>& cells, const CellKind& kind, uint64_t key,
                            Random& random) {
  const int64_t h = options.height, w = options.width;
  Plane sharp(h, w), hazy(h, w);
  const double grain_size = std::clamp(std::sqrt(kind.area) / 9, 1.3, 4.0);
  const Plane chromatin = synth::smooth_noise(h, w, grain_size, key, 1);
  const float level = static_cast<float>(random.uniform(45, 130));
  for (const Cell& cell : cells) {
    Plane& plane = random.uniform() < 0.12 ? hazy : sharp;
    const float own = level * static_cast<float>(std::exp(0.3 * random.normal())) * (cell.rounded ? 1.9f : 1.0f);
    const float edge = static_cast<float>(kind.edge), grain = static_cast<float>(kind.texture * random.uniform(0.6, 1.4));
    for_each_pixel(cell, plane, 0, [&](size_t i, float depth) {
      const float rim = 1 - std::exp(-(depth + 0.3f) / edge);
      plane.values[i] += own * rim * std::max(0.2f, 1 + grain * chromatin.values[i]);
    });
    const int holes = cell.rounded ? 0 : static_cast<int>(random.below(4));  // nucleoli take no dye
    for (int i = 0; i < holes; ++i) {
      const Spot p = spot_in(cell, 0.6, random);
      synth::add_dot(plane, p.x, p.y, 0.13 * cell.short_axis + 0.4, -0.28 * own);
    }
  }
  const auto specks = static_cast<int64_t>(kind.debris * options.density * random.uniform(0, 2));
  for (int64_t i = 0; i < specks; ++i) {
    synth::add_dot(sharp, random.uniform(0, static_cast<double>(w)), random.uniform(0, static_cast<double>(h)),
                   random.uniform(0.7, 1.6), level * random.uniform(0.1, 0.9));
  }
  Plane glow = sharp;
  synth::blur(glow, 14);
  synth::blur(hazy, random.uniform(1.4, 2.2));
  synth::blur(sharp, random.uniform(0.7, 1.2));
  const Plane uneven = synth::smooth_noise(h, w, 0.3 * static_cast<double>(std::max(h, w)), key, 2);
  const Plane noise = synth::white_noise(h, w, key, 3);
  const float dark = static_cast<float>(random.uniform(6, 16)), photons = static_cast<float>(random.uniform(0.25, 0.6));
  for (size_t i = 0; i < sharp.values.size(); ++i) {
    const float light = (sharp.values[i] + 0.85f * hazy.values[i] + 0.12f * glow.values[i]) * (1 + 0.05f * uneven.values[i]);
    const float mean = std::max(0.0f, dark * (1 + 0.1f * uneven.values[i]) + light);
    sharp.values[i] = mean + photons * std::sqrt(mean) * noise.values[i];
  }
  return synth::to_picture(sharp);
}

}  // namespace

void check(const SynthOptions& o) {
  if (o.images < 1) throw UsageError("synth: {} images, want at least 1", o.images);
  if (o.height < 32 || o.width < 32 || o.height > 16384 || o.width > 16384) {
    throw UsageError("synth: size {}x{}, want sides from 32 to 16384", o.height, o.width);
  }
  if (o.classes < 1 || o.classes > 3) throw UsageError("synth: {} classes, want 1, 2 or 3", o.classes);
  if (!(o.density > 0 && o.density <= 10)) throw UsageError("synth: density {}, want more than 0 and at most 10", o.density);
}

std::vector<std::string> synth_classes(const SynthOptions& options) {
  check(options);
  std::vector<std::string> names;
  for (int i = 0; i < options.classes; ++i) {
    names.push_back(options.style == SynthStyle::phase ? synth::phase_kind(i).name : synth::nucleus_kind(i).name);
  }
  return names;
}

SynthImage synth_image(const SynthOptions& options, int64_t index) {
  check(options);
  const bool phase = options.style == SynthStyle::phase;
  const int kind_index = static_cast<int>(index % options.classes);
  const CellKind& kind = phase ? synth::phase_kind(kind_index) : synth::nucleus_kind(kind_index);
  const Philox philox(options.seed, 0x73796E7468ull + (phase ? 0 : 1));
  const uint64_t key = philox.bits(static_cast<uint64_t>(index));
  Random random(key);
  const std::vector<Cell> cells = synth::place_cells(kind, options.height, options.width, options.density, random);
  Tensor picture =
      phase ? phase_picture(options, cells, kind, key, random) : fluorescence_picture(options, cells, kind, key, random);
  SynthImage result = assemble(options, cells, kind_index, std::move(picture));
  result.sample.id = fmt::format("{:012x}", key >> 16);
  return result;
}

}  // namespace glia
