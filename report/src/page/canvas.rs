//! What plots are drawn with: text, lines and areas in CSS pixels, and panels with axes.

use plotters::{
    backend::SVGBackend,
    chart::{ChartBuilder, ChartContext},
    coord::{Shift, types::RangedCoordf64},
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _},
    element::{Circle, PathElement, Polygon, Rectangle, Text},
    prelude::Cartesian2d,
    style::{
        Color as _, FontFamily, FontStyle, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    Error,
    axis::Axis,
    palette::{AXIS, Colour, FADED, GRID, INK, PAPER},
};

/// The backend knows whole units only; with four to a pixel lines are smooth.
const UNITS: f64 = 4.0;
/// The backend divides sizes of text by this.
const FONT_FACTOR: f64 = 1.24;
/// As the page's own text.
pub(super) const FONTS: &str =
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
/// How wide a character is, of the size of its text; on average, rather too wide.
const CHARACTER: f64 = 0.56;

/// For how wide a place a plot is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A screen, a slide.
    Wide,
    /// A phone.
    Narrow,
}

impl Layout {
    pub(super) fn width(self) -> f64 {
        match self {
            Self::Wide => 1040.0,
            Self::Narrow => 400.0,
        }
    }

    /// One of two values.
    pub(super) fn pick<T>(self, wide: T, narrow: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }
}

/// A rectangle, in pixels from the upper left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Which part of a text is where it is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How text looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub(super) size: f64,
    pub(super) bold: bool,
    pub(super) colour: Colour,
    pub(super) anchor: Anchor,
}

/// Ticks and notes.
pub(super) const SMALL: Type = Type { size: 12.0, bold: false, colour: FADED, anchor: Anchor::Start };
/// Names of systems.
pub(super) const STRONG: Type = Type { size: 14.0, bold: true, colour: INK, anchor: Anchor::Start };

impl Type {
    pub(super) fn colour(self, colour: Colour) -> Self {
        Self { colour, ..self }
    }

    pub(super) fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    /// About how wide a text is.
    pub(super) fn width(self, text: &str) -> f64 {
        text.chars().count() as f64 * self.size * CHARACTER
    }
}

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A plot in the making.
pub(super) struct Canvas<'a> {
    root: Root<'a>,
    pub(super) layout: Layout,
    /// Where the plot may be.
    pub(super) frame: Frame,
}

/// Draws a plot of this size; `label` is what is said in its place. With a `title` it is to
/// stand alone: on paper, under the title.
pub(super) fn svg(
    layout: Layout,
    height: f64,
    title: Option<&str>,
    label: &str,
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), Error>,
) -> Result<String, Error> {
    let margin = if title.is_some() { 24.0 } else { 0.0 };
    let band = if title.is_some() { 40.0 } else { 0.0 };
    let (width, height) = (layout.width() + 2.0 * margin, height + band + 2.0 * margin);
    let mut text = String::new();
    {
        let size = ((width * UNITS) as u32, (height * UNITS) as u32);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let inner = Frame {
            x: margin,
            y: margin + band,
            width: width - 2.0 * margin,
            height: height - 2.0 * margin - band,
        };
        let canvas = Canvas { root, layout, frame: inner };
        if let Some(title) = title {
            canvas.root.fill(&PAPER.rgb()).map_err(failed)?;
            canvas.text((margin, margin + 12.0), title, Type { size: 20.0, ..STRONG })?;
        }
        draw(&canvas)?;
        canvas.root.present().map_err(failed)?;
    }
    Ok(dressed(&text, (width, height), label))
}

/// Gives the drawing what the backend does not: a size in pixels, a name for those who do not
/// see it, the page's fonts; and takes what goes without saying. Neither quotes nor angle brackets
/// can be in its texts any more, so nothing but attributes is met.
fn dressed(svg: &str, (width, height): (f64, f64), label: &str) -> String {
    let (_, body) = svg.split_once('>').unwrap_or(("", svg));
    let body = body
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "")
        .replace("\n</text>", "</text>")
        .replace(" \"", "\"");
    let (units_x, units_y) = ((width * UNITS) as u32, (height * UNITS) as u32);
    let label = super::html::escape(label);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {units_x} {units_y}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{label}\" font-family=\"{FONTS}\" \
         stroke-linejoin=\"round\">{body}"
    )
}

impl<'a> Canvas<'a> {
    /// A part of it.
    pub(super) fn at(&self, frame: Frame) -> Self {
        Self { root: self.root.clone(), layout: self.layout, frame }
    }

    /// One line, centred on its y.
    pub(super) fn text(&self, (x, y): (f64, f64), text: &str, style: Type) -> Result<(), Error> {
        let weight = if style.bold { FontStyle::Bold } else { FontStyle::Normal };
        let size = style.size * UNITS * FONT_FACTOR;
        let anchor = match style.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let (colour, at) = (style.colour.rgb(), Pos::new(anchor, VPos::Center));
        let font = TextStyle::from((FontFamily::SansSerif, size, weight)).color(&colour).pos(at);
        let text = super::html::printable(text);
        self.root.draw(&Text::new(text, units((x, y)), font)).map_err(failed)
    }

    /// Text that must fit into a width: cut where it would not.
    pub(super) fn text_within(
        &self,
        at: (f64, f64),
        text: &str,
        style: Type,
        width: f64,
    ) -> Result<(), Error> {
        if style.width(text) <= width {
            return self.text(at, text, style);
        }
        let room = (width / (style.size * CHARACTER)).floor() as usize;
        let cut: String = text.chars().take(room.saturating_sub(1)).chain(['…']).collect();
        self.text(at, &cut, style)
    }

    pub(super) fn fill(&self, frame: Frame, colour: Colour, opacity: f64) -> Result<(), Error> {
        let corners = [(frame.x, frame.y), (frame.x + frame.width, frame.y + frame.height)];
        let style = colour.rgb().mix(opacity).filled();
        self.root.draw(&Rectangle::new(corners.map(units), style)).map_err(failed)
    }

    pub(super) fn segment(&self, ends: [(f64, f64); 2], colour: Colour, width: f64) -> Result<(), Error> {
        self.root
            .draw(&PathElement::new(ends.map(units).to_vec(), stroke(colour, width, 1.0)))
            .map_err(failed)
    }

    /// What a colour stands for, one beside the other from `at` on and on further lines where there
    /// is no room; a swatch is drawn as a line or as a square. Returns the y of the last line.
    pub(super) fn legend(&self, at: (f64, f64), right: f64, entries: &[Key]) -> Result<f64, Error> {
        let (mut x, mut y) = at;
        for entry in entries {
            let needed = 16.0 + SMALL.width(&entry.text);
            if x > at.0 && x + needed > right {
                (x, y) = (at.0, y + 17.0);
            }
            match entry.swatch {
                Swatch::Line(width) => {
                    let half = entry.opacity;
                    let line = Frame { x, y: y - width / 2.0, width: 12.0, height: width };
                    self.fill(line, entry.colour, half)?;
                }
                Swatch::Square => {
                    let square = Frame { x, y: y - 5.0, width: 10.0, height: 10.0 };
                    self.fill(square, entry.colour, entry.opacity)?;
                }
            }
            self.text_within((x + 16.0, y), &entry.text, SMALL, right - x - 16.0)?;
            x += needed + 12.0;
        }
        Ok(y)
    }

    /// A place for curves, its plotting area being the frame.
    pub(super) fn panel<'p>(&self, frame: Frame, x: &'p Axis, y: &'p Axis) -> Result<Panel<'p, 'a>, Error> {
        let (left, top) = units((frame.x, frame.y));
        let (width, height) = units((frame.width, frame.height));
        let area = self.root.clone().shrink((left, top), (width, height));
        let chart = ChartBuilder::on(&area).build_cartesian_2d(0.0..1.0, 0.0..1.0).map_err(failed)?;
        Ok(Panel { chart, frame, x, y })
    }
}

/// An entry of a legend.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) colour: Colour,
    pub(super) opacity: f64,
    pub(super) swatch: Swatch,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Swatch {
    /// Of this width.
    Line(f64),
    Square,
}

/// A plotting area with its two axes; all that is drawn on it is in the axes' values.
pub(super) struct Panel<'p, 'a> {
    chart: Chart<'a>,
    pub(super) frame: Frame,
    x: &'p Axis,
    y: &'p Axis,
}

impl Panel<'_, '_> {
    /// Lines at the ticks of the y axis, and a base line.
    pub(super) fn horizontal_grid(&self) -> Result<(), Error> {
        for (value, _) in &self.y.ticks {
            let y = self.y.place(*value);
            self.path([(0.0, y), (1.0, y)].to_vec(), stroke(GRID, 1.0, 1.0))?;
        }
        self.base()
    }

    /// Lines at the ticks of the x axis, and a base line.
    pub(super) fn vertical_grid(&self) -> Result<(), Error> {
        for (value, _) in &self.x.ticks {
            let x = self.x.place(*value);
            self.path([(x, 0.0), (x, 1.0)].to_vec(), stroke(GRID, 1.0, 1.0))?;
        }
        self.base()
    }

    fn base(&self) -> Result<(), Error> {
        self.path([(0.0, 0.0), (1.0, 0.0)].to_vec(), stroke(AXIS, 1.0, 1.0))
    }

    /// The x axis' labels below the frame; those at the ends are kept within `canvas`.
    pub(super) fn x_labels(&self, canvas: &Canvas<'_>) -> Result<(), Error> {
        let y = self.frame.y + self.frame.height + 13.0;
        for (value, label) in &self.x.ticks {
            let x = self.frame.x + self.x.place(*value) * self.frame.width;
            let half = SMALL.width(label) / 2.0;
            let right = canvas.frame.x + canvas.frame.width;
            let x = x.min(right - half).max(canvas.frame.x + half);
            canvas.text((x, y), label, SMALL.anchor(Anchor::Middle))?;
        }
        Ok(())
    }

    /// The y axis' labels to the left of the frame.
    pub(super) fn y_labels(&self, canvas: &Canvas<'_>) -> Result<(), Error> {
        for (value, label) in &self.y.ticks {
            canvas.text((self.frame.x - 8.0, self.y_of(*value)), label, SMALL.anchor(Anchor::End))?;
        }
        Ok(())
    }

    /// The pixel of a value of y.
    pub(super) fn y_of(&self, value: f64) -> f64 {
        self.frame.y + (1.0 - self.y.place(value)) * self.frame.height
    }

    /// The pixel of a value of x.
    pub(super) fn x_of(&self, value: f64) -> f64 {
        self.frame.x + self.x.place(value) * self.frame.width
    }

    pub(super) fn line(
        &self,
        points: &[(f64, f64)],
        colour: Colour,
        width: f64,
        opacity: f64,
    ) -> Result<(), Error> {
        match points {
            [] => Ok(()),
            [only] => self.dot(*only, width, colour, opacity),
            _ => self.path(points.iter().map(|p| self.placed(*p)).collect(), stroke(colour, width, opacity)),
        }
    }

    /// What is between two curves.
    pub(super) fn band(
        &self,
        upper: &[(f64, f64)],
        lower: &[(f64, f64)],
        colour: Colour,
        opacity: f64,
    ) -> Result<(), Error> {
        if upper.len() < 2 {
            return Ok(());
        }
        let outline: Vec<_> = upper.iter().chain(lower.iter().rev()).map(|p| self.placed(*p)).collect();
        let polygon = Polygon::new(outline, colour.rgb().mix(opacity).filled());
        self.chart.plotting_area().draw(&polygon).map_err(failed)
    }

    /// What is below a curve.
    pub(super) fn area(&self, points: &[(f64, f64)], colour: Colour, opacity: f64) -> Result<(), Error> {
        let base: Vec<_> = points.iter().map(|(x, _)| (*x, self.y.from())).collect();
        self.band(points, &base, colour, opacity)
    }

    pub(super) fn dot(&self, at: (f64, f64), radius: f64, colour: Colour, opacity: f64) -> Result<(), Error> {
        let circle =
            Circle::new(self.placed(at), (radius * UNITS) as i32, colour.rgb().mix(opacity).filled());
        self.chart.plotting_area().draw(&circle).map_err(failed)
    }

    fn placed(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x.place(x), self.y.place(y))
    }

    fn path(&self, points: Vec<(f64, f64)>, style: ShapeStyle) -> Result<(), Error> {
        self.chart.plotting_area().draw(&PathElement::new(points, style)).map_err(failed)
    }
}

fn stroke(colour: Colour, width: f64, opacity: f64) -> ShapeStyle {
    colour.rgb().mix(opacity).stroke_width((width * UNITS).round().max(1.0) as u32)
}

fn units((x, y): (f64, f64)) -> (i32, i32) {
    ((x * UNITS).round() as i32, (y * UNITS).round() as i32)
}

fn failed<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> Error {
    Error::Drawing(error.to_string())
}
