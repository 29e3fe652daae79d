//! One panel for each system, all with the same axes.

use super::{
    Error,
    axis::Axis,
    canvas::{Canvas, Frame, Layout, Panel, SMALL, STRONG},
    shown::Shown,
};

/// How panels are arranged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) count: usize,
    /// Beside each other, where there is room.
    pub(super) most_columns: usize,
    /// Of the plotting area.
    pub(super) height: f64,
    /// Above it, for the name and what else is told.
    pub(super) header: f64,
}

/// For the y axis' labels.
const LEFT: f64 = 62.0;
const GAP: f64 = 26.0;
/// For the x axis' labels, and some air.
const BELOW: f64 = 38.0;

impl Grid {
    fn columns(self, layout: Layout) -> usize {
        // Three in a row leave no hole.
        let most = if self.count == 3 { self.most_columns.max(3) } else { self.most_columns };
        layout.pick(most.min(self.count), 1).max(1)
    }

    /// Of all of it.
    pub(super) fn total_height(self, layout: Layout) -> f64 {
        self.count.div_ceil(self.columns(layout)) as f64 * (self.header + self.height + BELOW)
    }

    /// The plotting area of a panel; `right` is kept free beside each.
    fn frame(self, canvas: &Canvas<'_>, place: usize, right: f64) -> Frame {
        let columns = self.columns(canvas.layout);
        let (row, column) = (place / columns, place % columns);
        let all = canvas.frame.width - LEFT - GAP * (columns - 1) as f64;
        let width = all / columns as f64;
        Frame {
            x: canvas.frame.x + LEFT + column as f64 * (width + GAP),
            y: canvas.frame.y + row as f64 * (self.header + self.height + BELOW) + self.header,
            width: width - right,
            height: self.height,
        }
    }

    /// Draws each panel with its name, its grid and the labels of its axes, and leaves the
    /// rest to `draw`.
    pub(super) fn draw(
        self,
        canvas: &Canvas<'_>,
        systems: &[Shown<'_>],
        (x, y): (&Axis, &Axis),
        right: f64,
        draw: impl Fn(&Shown<'_>, &Panel<'_, '_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (place, shown) in systems.iter().enumerate() {
            let frame = self.frame(canvas, place, right);
            let panel = canvas.panel(frame, x, y)?;
            let name_at = (frame.x, frame.y - self.header + 10.0);
            canvas.text_within(name_at, &shown.label, STRONG.colour(shown.colour()), frame.width + right)?;
            panel.horizontal_grid()?;
            draw(shown, &panel)?;
            panel.x_labels(canvas)?;
            if place % self.columns(canvas.layout) == 0 {
                panel.y_labels(canvas)?;
            }
        }
        Ok(())
    }

    /// What stands in a panel of a system that does not tell.
    pub(super) fn absent(canvas: &Canvas<'_>, panel: &Panel<'_, '_>, text: &str) -> Result<(), Error> {
        let frame = panel.frame;
        canvas.text_within((frame.x + 8.0, frame.y + frame.height / 2.0), text, SMALL, frame.width - 8.0)
    }
}
