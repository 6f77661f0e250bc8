#pragma once
// What charts are drawn on: SVG text, or a picture. Coordinates in pixels, from the left and from the top.
#include <string>
#include <vector>

#include "data/draw.h"

namespace glia {

class Canvas {
 public:
  static constexpr Color paper{255, 255, 255};  // the canvas before anything is drawn
  enum class Align { left, middle, right };
  struct Point {
    double x, y;
  };
  using Polyline = std::vector<Point>;

  virtual ~Canvas() = default;
  virtual void rectangle(double x, double y, double w, double h, Color color) = 0;
  virtual void polyline(const Polyline& points, Color color, double width) = 0;
  virtual void dot(Point p, double radius, Color color) = 0;
  virtual void text(Point p, Align align, const std::string& text, Color color,
                    bool large) = 0;                                              // p: left/middle/right, centre line
  virtual void vertical_text(Point p, const std::string& text, Color color) = 0;  // centred, read upwards
  virtual double text_width(const std::string& text, bool large) const = 0;
};

class SvgCanvas : public Canvas {
 public:
  SvgCanvas(int width, int height);
  void rectangle(double x, double y, double w, double h, Color c) override;
  void polyline(const Polyline& points, Color c, double width) override;
  void dot(Point p, double radius, Color c) override;
  void text(Point p, Align align, const std::string& text, Color c, bool large) override;
  void vertical_text(Point p, const std::string& text, Color c) override;
  double text_width(const std::string& text, bool large) const override;
  std::string finish() { return out_ + "</svg>\n"; }

 private:
  std::string out_;
};

class PictureCanvas : public Canvas {
 public:
  PictureCanvas(int width, int height);
  void rectangle(double x, double y, double w, double h, Color c) override;
  void polyline(const Polyline& points, Color color, double width) override;
  void dot(Point p, double radius, Color color) override;
  void text(Point p, Align align, const std::string& text, Color c, bool large) override;
  void vertical_text(Point p, const std::string& text, Color c) override;
  double text_width(const std::string& text, bool large) const override;
  Tensor picture() const { return picture_; }  // (height, width, 3) uint8

 private:
  Tensor picture_;
};

}  // namespace glia
