//! Colours: one for each system, the same in every plot and table.
//!
//! The systems' colours are told apart with each common kind of colour blindness (after Okabe
//! and Ito 2008, darkened or lightened until each has a contrast of 3 to its paper), and nothing is
//! told by colour alone. Plots are drawn in the light colours; on dark paper the page's style
//! sheet exchanges them.

use plotters::style::RGBColor;

/// A colour on light and on dark paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour {
    pub(super) light: (u8, u8, u8),
    pub(super) dark: (u8, u8, u8),
}

const fn colour(light: u32, dark: u32) -> Colour {
    const fn rgb(hex: u32) -> (u8, u8, u8) {
        ((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
    }
    Colour { light: rgb(light), dark: rgb(dark) }
}

/// What plots are drawn on.
pub(super) const PAPER: Colour = colour(0xFF_FFFF, 0x12_161B);
/// Text and what it points at.
pub(super) const INK: Colour = colour(0x1B_1F24, 0xE8_ECF0);
/// Text of less weight.
pub(super) const FADED: Colour = colour(0x57_606A, 0xA4_AEB9);
/// The line that bars and areas stand on.
pub(super) const AXIS: Colour = colour(0xA0_A9B2, 0x5A_6672);
pub(super) const GRID: Colour = colour(0xE4_E8EC, 0x2A_3138);
/// Kafka, which is the same below every system.
pub(super) const KAFKA: Colour = colour(0x9B_A4AE, 0x6B_7783);

const SYSTEMS: [Colour; 6] = [
    colour(0x00_72B2, 0x4F_B0EA),
    colour(0xD5_5E00, 0xFF_8F45),
    colour(0x00_8F6B, 0x2F_CFA2),
    colour(0xB0_5287, 0xE8_9AC6),
    colour(0x94_6A00, 0xEB_C046),
    colour(0x4B_3FA8, 0xA9_9FFF),
];

/// Of the system with this place in the page's order; beyond six they come round again.
pub(super) fn system(place: usize) -> Colour {
    SYSTEMS[place % SYSTEMS.len()]
}

impl Colour {
    pub(super) fn rgb(self) -> RGBColor {
        let (r, g, b) = self.light;
        RGBColor(r, g, b)
    }
}

/// Exchanges the light colours of plots for the dark ones.
pub(super) fn dark_rules() -> String {
    let fixed = [PAPER, INK, FADED, AXIS, GRID, KAFKA];
    let rule = |colour: Colour| {
        let (light, dark) = (hex(colour.light), hex(colour.dark));
        format!("svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}\n")
    };
    fixed.into_iter().chain(SYSTEMS).map(rule).collect()
}

/// `--s0`, `--s1`, … for what is not a plot.
pub(super) fn variables(dark: bool) -> String {
    let value = |colour: &Colour| hex(if dark { colour.dark } else { colour.light });
    let system = |(place, colour)| format!("--s{place}:{};", value(colour));
    let fixed = [("paper", PAPER), ("ink", INK), ("faded", FADED), ("axis", AXIS), ("grid", GRID)];
    let fixed = fixed.iter().map(|(name, colour)| format!("--{name}:{};", value(colour)));
    SYSTEMS.iter().enumerate().map(system).chain(fixed).collect()
}

/// The variable's name of a system.
pub(super) fn variable(place: usize) -> String {
    format!("--s{}", place % SYSTEMS.len())
}

/// As plots write it, which is what the style sheet looks for.
fn hex((r, g, b): (u8, u8, u8)) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.2, relative luminance and contrast ratio.
    fn contrast(a: (u8, u8, u8), b: (u8, u8, u8)) -> f64 {
        let linear = |c: u8| match f64::from(c) / 255.0 {
            c if c <= 0.04045 => c / 12.92,
            c => ((c + 0.055) / 1.055).powf(2.4),
        };
        let luminance = |(r, g, b)| 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    #[test]
    fn all_that_is_read_stands_out_on_both_papers() {
        for (place, colour) in SYSTEMS.into_iter().enumerate() {
            for (paper, colour) in [(PAPER.light, colour.light), (PAPER.dark, colour.dark)] {
                // As names are written in them; 3 would do for lines alone.
                let contrast = contrast(paper, colour);
                assert!(contrast > 3.7, "system {place}: {contrast:.1}");
            }
        }
        for colour in [INK, FADED] {
            assert!(contrast(PAPER.light, colour.light) > 4.5 && contrast(PAPER.dark, colour.dark) > 4.5);
        }
    }

    #[test]
    fn no_two_colours_are_the_same_so_that_each_can_be_exchanged() {
        let all: Vec<_> = [PAPER, INK, FADED, AXIS, GRID, KAFKA].into_iter().chain(SYSTEMS).collect();
        for (place, colour) in all.iter().enumerate() {
            assert!(all[place + 1..].iter().all(|other| other.light != colour.light));
        }
    }
}
