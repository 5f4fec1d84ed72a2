//! A picture of the regions: of a few, a line each; of many, a letter each. Colours are for terminals; SVG for everything else.

use super::failure::{Failure, Verdict};
use super::picture::{Cell, cells};
use super::read;
use super::region::{Fate, Region, State};
use super::text::{counted, percent};
use super::volume::Volume;
use argh::FromArgs;
use snowskin_protocol::ByteSize;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

/// Letters in a line.
const LINE_LETTERS: usize = 64;
/// Regions that get a line each.
const LINES_MAX: usize = 64;
/// Pieces of all regions together that an SVG has at most, about, and the most and fewest of one region.
const PIECES_MAX: usize = 1 << 16;
const PIECES_OF_REGION: (usize, usize) = (8, 256);
/// Regions below each other in an SVG, and sizes in pixels.
const SVG_ROWS: usize = 64;
const SVG_ROW_PX: usize = 14;
const SVG_WIDTH_PX: usize = 960;
const SVG_STRIP_PX_MIN: usize = 24;
const SVG_HEAD_PX: usize = 44;

/// a picture of the regions: what is live, dead, free, damaged
#[derive(FromArgs)]
#[argh(subcommand, name = "map", example = "{command_name} tier.img\n{command_name} tier.img --svg map.svg")]
pub(crate) struct MapVerb {
    /// the file or block device
    #[argh(positional)]
    path: PathBuf,
    /// write it to this file, as SVG
    #[argh(option)]
    svg: Option<PathBuf>,
}

pub(crate) fn run(verb: &MapVerb, out: &mut impl Write, is_terminal: bool) -> Result<Verdict, Failure> {
    let (_, volume) = read(&verb.path)?;
    match &verb.svg {
        Some(path) => {
            let written = std::fs::write(path, svg(&volume));
            written.map_err(|error| Failure::Write(path.clone(), error))?;
        }
        None if volume.regions.len() <= LINES_MAX => lines(&volume, out, is_terminal)?,
        None => letters(&volume, out, is_terminal)?,
    }
    Ok(volume.verdict())
}

/// A line a region.
fn lines(volume: &Volume, out: &mut impl Write, in_colour: bool) -> io::Result<()> {
    for region in &volume.regions {
        write!(out, "  {:>4}  {:<10}  ", region.number, region.state.word())?;
        row(&cells(region, volume.superblock.geometry, LINE_LETTERS), out, in_colour)?;
    }
    let legend =
        Cell::ALL.map(|cell| format!("{} {}", coloured(cell, cell.letter(), in_colour), cell.word()));
    writeln!(out, "\n  {}", legend.join("   "))?;
    writeln!(out, "  {}", caption(volume))
}

fn row(cells: &[Cell], out: &mut impl Write, in_colour: bool) -> io::Result<()> {
    for run in cells.chunk_by(|a, b| a == b) {
        let letters: String = run.iter().map(|cell| cell.letter()).collect();
        write!(out, "{}", coloured(run[0], letters, in_colour))?;
    }
    writeln!(out)
}

fn coloured(cell: Cell, text: impl std::fmt::Display, in_colour: bool) -> String {
    match in_colour {
        true => format!("\x1b[{}m{text}\x1b[0m", cell.terminal_colour()),
        false => text.to_string(),
    }
}

/// A letter a region: how much of it is live.
fn letters(volume: &Volume, out: &mut impl Write, in_colour: bool) -> io::Result<()> {
    for line in volume.regions.chunks(LINE_LETTERS) {
        let letters: Vec<String> = line
            .iter()
            .map(|region| {
                let (letter, cell) = letter(region, volume.superblock.geometry.region_bytes);
                coloured(cell, letter, in_colour)
            })
            .collect();
        writeln!(out, "  {:>6}  {}", line[0].number, letters.concat())?;
    }
    let parts = [("█", "three quarters and more are live"), ("▓", "half"), ("▒", "a quarter"), ("░", "less")];
    let legend = parts.map(|(letter, words)| format!("{letter} {words}"));
    writeln!(out, "\n  {}   - nothing   · free   × damaged", legend.join("   "))?;
    writeln!(out, "  {}", caption(volume))
}

fn letter(region: &Region, region_bytes: u64) -> (char, Cell) {
    if region.is_damaged() {
        return ('×', Cell::Damaged);
    }
    if region.state == State::Free {
        return ('·', Cell::Free);
    }
    match region.bytes_of(|fate| fate == Fate::Live) * 4 / region_bytes {
        _ if region.count_of(|fate| fate == Fate::Live) == 0 => ('-', Cell::Dead),
        0 => ('░', Cell::Dead),
        1 => ('▒', Cell::Live),
        2 => ('▓', Cell::Live),
        _ => ('█', Cell::Live),
    }
}

fn caption(volume: &Volume) -> String {
    let geometry = volume.superblock.geometry;
    let all = geometry.region_bytes * u64::from(geometry.regions);
    let live: u64 = volume.regions.iter().map(|region| region.bytes_of(|fate| fate == Fate::Live)).sum();
    let regions = counted(geometry.regions.into(), "region");
    format!("{regions} of {}, {} live", ByteSize(geometry.region_bytes), percent(live, all))
}

/// The same for a browser or a document.
fn svg(volume: &Volume) -> String {
    let regions = volume.regions.len();
    let columns = regions.div_ceil(SVG_ROWS).max(1);
    let strip = (SVG_WIDTH_PX / columns).max(SVG_STRIP_PX_MIN);
    let rows = regions.div_ceil(columns);
    let (width, height) = (strip * columns, SVG_HEAD_PX + rows * SVG_ROW_PX);
    let pieces = (PIECES_MAX / regions).clamp(PIECES_OF_REGION.0, PIECES_OF_REGION.1);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<text x=\"2\" y=\"14\">{}</text>\n",
        caption(volume)
    );
    for (place, cell) in Cell::ALL.into_iter().enumerate() {
        let x = 2 + place * 110;
        let (colour, word) = (cell.colour(), cell.word());
        put(
            &mut text,
            format_args!("<rect x=\"{x}\" y=\"22\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"),
        );
        put(&mut text, format_args!("<text x=\"{}\" y=\"32\">{word}</text>", x + 16));
    }
    for (place, region) in volume.regions.iter().enumerate() {
        let (x, y) = (place / rows * strip, SVG_HEAD_PX + place % rows * SVG_ROW_PX);
        let sequence = region.opened().map_or("-".to_owned(), |sequence| sequence.0.to_string());
        let title = format!("region {}: {}, sequence {sequence}", region.number, region.state.word());
        put(&mut text, format_args!("<g transform=\"translate({x} {y})\"><title>{title}</title>"));
        let mut begin = 0;
        for run in cells(region, volume.superblock.geometry, pieces).chunk_by(|a, b| a == b) {
            let at = |piece: usize| (strip - 2) as f64 * piece as f64 / pieces as f64;
            let (from, to, colour) = (at(begin), at(begin + run.len()), run[0].colour());
            let (bar, px) = (to - from, SVG_ROW_PX - 2);
            put(
                &mut text,
                format_args!("<rect x=\"{from:.2}\" width=\"{bar:.2}\" height=\"{px}\" fill=\"{colour}\"/>"),
            );
            begin += run.len();
        }
        put(&mut text, format_args!("</g>"));
    }
    text + "</svg>\n"
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes all");
}
