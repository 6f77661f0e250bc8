#pragma once
// Weights of the pixels of a loss, made from a label map: what a network has to care for more than for the rest. Terms are between 0 and 1 and
// are added up with a height each:
//
//   w(x) = b(x) + border B(x) + contour C(x) + curvature K(x)
//
//   b  1; with `balance` w_c of Ronneberger et al. 2015, eq. 2: the inverse of the frequency of the pixel's class (cell, background), scaled
//      to a maximum of 1
//   B  the rest of their eq. 2: exp(-(d1 + d2)^2 / (2 sigma^2)), d1 and d2 the Euclidean distances to the nearest and the second nearest
//      cell; 0 inside cells and where there are fewer than two
//   C  exp(-d^2 / (2 sigma^2)), d the distance to the nearest contour pixel: a pixel of a cell beside one of another label
//   K  the largest k(p) exp(-|x - p|^2 / (2 sigma^2)) over all contour pixels p. k is how much the share of the disc of radius curvature_radius
//      about p that p's own cell fills differs from that of a straight edge (an integral invariant: Manay et al. 2006), as a part of the most
//      that it can; the mean over the cell's contour pixels in the disc, as pixels make single ones jump: 0 on straight edges, larger at tips
//      and in notches
//
// The shape-aware loss of Lin and Norouzi (EMBC 2021) is not public; this is none of its formulas.
#include "tensor/tensor.h"

namespace glia {

struct PixelWeights {
  double border = 0, contour = 0, curvature = 0;  // heights
  double sigma = 5;                               // reach of each term, in pixels of the label map
  int64_t curvature_radius = 5;
  bool balance = false;
  bool normalize = false;  // divided by their mean over the map: a loss's mean is then that of weighted pixels
  bool any() const { return border > 0 || contour > 0 || curvature > 0 || balance; }
};

// labels (H, W) int32, 0 for background -> (H, W) float32. An image without a cell has the weight b everywhere.
Tensor pixel_weights(const Tensor& labels, const PixelWeights& options);

// The terms by themselves, (H, W) float32 each.
Tensor border_term(const Tensor& labels, double sigma);
Tensor contour_term(const Tensor& labels, double sigma);
Tensor curvature_term(const Tensor& labels, double sigma, int64_t radius);

}  // namespace glia
