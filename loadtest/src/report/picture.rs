//! Draws charts as PNG.

use super::chart::Chart;
use super::terminal::short;
use plotters::prelude::*;
use plotters::style::FontStyle;
use std::error::Error;
use std::io;
use std::path::Path;

const WIDTH: u32 = 1_200;
const HEIGHT: u32 = 480;
/// The width of the legend, to the right of the chart.
const NAMES_WIDTH: u32 = 240;
const FONT: &str = "labels";
const INK: RGBColor = RGBColor(0x22, 0x2a, 0x35);
const FAINT: RGBColor = RGBColor(0xe3, 0xe7, 0xec);
/// The colours of the lines, which most colour-blind people can tell apart too (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];

/// Draws charts one below the other into a PNG file.
///
/// # Errors
/// The file's, or the drawing's.
pub fn draw(charts: &[Chart], path: &Path) -> io::Result<()> {
    // It fails only where the font is registered already.
    let _ = plotters::style::register_font(FONT, FontStyle::Normal, include_bytes!("../../assets/labels.ttf"));
    let height = HEIGHT * charts.len().max(1) as u32;
    let other = |error: Box<dyn Error>| io::Error::other(error.to_string());
    draw_all(charts, path, height).map_err(other)
}

fn draw_all(charts: &[Chart], path: &Path, height: u32) -> Result<(), Box<dyn Error>> {
    let root = BitMapBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, chart) in root.split_evenly((charts.len().max(1), 1)).iter().zip(charts) {
        draw_one(chart, area)?;
    }
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

fn draw_one(chart: &Chart, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let (area, names) = area.split_horizontally(WIDTH - NAMES_WIDTH);
    for (index, (line, colour)) in chart.lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = 60 + 26 * index as i32;
        names.draw(&Rectangle::new([(0, y + 6), (22, y + 9)], colour.filled()))?;
        names.draw(&Text::new(line.name.clone(), (30, y), (FONT, 16).into_font().color(&INK)))?;
    }

    let (first, last) = match (chart.x.first(), chart.x.last()) {
        (Some(first), Some(last)) if last > first => (*first, *last),
        (Some(only), _) => (only - 1.0, only + 1.0),
        _ => (0.0, 1.0),
    };

    let most = chart.values().fold(0.0, f64::max).max(1e-3);
    let unit = if chart.unit.is_empty() { String::new() } else { format!(", {}", chart.unit) };
    let mut builder = ChartBuilder::on(&area);
    builder
        .caption(format!("{}{unit}", chart.title), (FONT, 24, &INK))
        .margin(18)
        .x_label_area_size(48)
        .y_label_area_size(72);
    let shown = |value: &f64| if *value < 10.0 { trimmed(*value) } else { short(value.round()).replace(".0", "") };

    // A macro, since linear and logarithmic axes have different types: mesh and lines are the same for both.
    macro_rules! drawn {
        ($vertical:expr, $least:expr) => {{
            let mut context = builder.build_cartesian_2d(first..last, $vertical)?;
            context
                .configure_mesh()
                .label_style((FONT, 16, &INK))
                .axis_style(INK.mix(0.5))
                .bold_line_style(FAINT)
                .light_line_style(TRANSPARENT)
                .x_desc(chart.across)
                .x_label_formatter(&|x| format!("{x:.0}"))
                .y_labels(6)
                .y_label_formatter(&shown)
                .draw()?;
            for (line, colour) in chart.lines.iter().zip(COLOURS.iter().cycle()) {
                let points = chart.x.iter().zip(&line.values);
                let points = points.filter_map(|(x, y)| Some((*x, f64::max((*y)?, $least))));
                context.draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(dot(chart)))?;
            }
        }};
    }

    if chart.logarithmic {
        let least = chart.values().filter(|value| *value > 0.0).fold(most, f64::min);
        let (least, most) = (least / 1.5, most * 2.0);
        drawn!((least..most).log_scale(), least);
    } else {
        drawn!(0.0..most * 1.15, 0.0);
    }
    Ok(())
}

/// 0.50 as 0.5, 2.00 as 2.
fn trimmed(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The radius of the points' dots: only charts with few points show them.
fn dot(chart: &Chart) -> u32 {
    if chart.x.len() <= 20 { 4 } else { 0 }
}
