//! How the terminal view looks.

use ratatui::Frame;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState};

use super::board::{Board, HEADS, RunLine};

/// What the person has chosen.
#[derive(Debug, Default)]
pub struct View {
    /// The run that is marked, by its number in the list.
    pub marked: usize,
    /// The run that is shown instead of the tables, line by line, and how far it is scrolled.
    pub run: Option<(String, Vec<String>, u16)>,
    /// Nothing is asked of the engine meanwhile.
    pub is_held: bool,
    /// What came of the last key.
    pub said: String,
}

const KEYS: &str = "q quit   ↑↓ choose   enter show the run   r retry it now   p hold";
const RUN_KEYS: &str = "q quit   esc back   ↑↓ scroll   r retry it now   p hold";

/// Draws a look at the engine.
pub fn draw(frame: &mut Frame<'_>, board: &Board, view: &View) {
    let functions = u16::try_from(board.functions.len()).unwrap_or(u16::MAX).saturating_add(2);
    let head = Constraint::Length(4);
    let foot = Constraint::Length(1);
    if let Some((run, lines, scrolled)) = &view.run {
        let [top, middle, bottom] = Layout::vertical([head, Constraint::Min(3), foot]).areas(frame.area());
        title(frame, top, board);
        let text = Text::from(lines.iter().map(|line| Line::raw(line.as_str())).collect::<Vec<_>>());
        let block = Block::new().borders(Borders::TOP).title(format!(" run {run} "));
        frame.render_widget(Paragraph::new(text).block(block).scroll((*scrolled, 0)), middle);
        return keys(frame, bottom, view, RUN_KEYS);
    }
    let half = (frame.area().height.saturating_sub(5) / 2).max(3);
    let rows = [head, Constraint::Length(functions.min(half)), Constraint::Min(3), foot];
    let [top, middle, below, bottom] = Layout::vertical(rows).areas(frame.area());
    title(frame, top, board);
    frame.render_widget(functions_table(board), middle);
    runs_table(frame, below, board, view);
    keys(frame, bottom, view, KEYS);
}

fn title(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let [first, second, third] = board.head();
    let style = if board.reasons.is_empty() { Style::new().fg(Color::Green) } else { Style::new().fg(Color::Red) };
    let lines = vec![Line::styled(first, style.add_modifier(Modifier::BOLD)), Line::raw(second), Line::raw(third)];
    frame.render_widget(Paragraph::new(lines), area);
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn functions_table(board: &Board) -> Table<'_> {
    let longest = board.functions.iter().map(|function| function.function.chars().count()).max().unwrap_or(8).clamp(8, 40);
    let widths = HEADS.iter().enumerate().map(|(at, head)| match at {
        0 => Constraint::Length(longest as u16),
        _ => Constraint::Length(head.len().max(7) as u16),
    });
    let rows = board.functions.iter().map(|function| {
        let style = if function.runs[4] > 0.0 || function.ended[1] > 0.0 { Style::new().fg(Color::Red) } else { Style::new() };
        Row::new(function.cells()).style(style)
    });
    Table::new(rows, widths).header(Row::new(HEADS).style(dim()))
}

fn runs_table(frame: &mut Frame<'_>, area: Rect, board: &Board, view: &View) {
    let row = |run: &RunLine| {
        let colour = match run.state.as_str() {
            "failed" | "parked" => Color::Red,
            _ => Color::Yellow,
        };
        let state = Cell::from(run.state.clone()).style(Style::new().fg(colour));
        let cells = [run.run.clone(), run.function.clone()].map(Cell::from).into_iter().chain([state]);
        Row::new(cells.chain([run.age.clone(), run.why.clone()].map(Cell::from)))
    };
    let widths = [Constraint::Length(13), Constraint::Length(24), Constraint::Length(11), Constraint::Length(8), Constraint::Min(20)];
    let table = Table::new(board.attention.iter().map(row), widths)
        .header(Row::new(["run", "function", "state", "since", "why"]).style(dim()))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::new().borders(Borders::TOP).title(format!(" {} ", board.attention_title())));
    let mut state = TableState::default();
    if !board.attention.is_empty() {
        state.select(Some(view.marked.min(board.attention.len() - 1)));
    }
    frame.render_stateful_widget(table, area, &mut state);
}

fn keys(frame: &mut Frame<'_>, area: Rect, view: &View, keys: &str) {
    let held = if view.is_held { "held   " } else { "" };
    let said = if view.said.is_empty() { String::new() } else { format!("   {}", view.said) };
    frame.render_widget(Paragraph::new(Line::styled(format!("{held}{keys}{said}"), dim())), area);
}

/// One look as plain text, as wide as is wanted and as high as it takes, without the keys.
pub fn text(board: &Board, width: u16) -> String {
    let rows = board.functions.len() + board.attention.len();
    // As many again for the half that the functions may take.
    let height = u16::try_from(2 * rows + 16).unwrap_or(u16::MAX);
    let mut screen = match ratatui::Terminal::new(TestBackend::new(width, height)) {
        Ok(screen) => screen,
        Err(never) => match never {},
    };
    match screen.draw(|frame| draw(frame, board, &View::default())) {
        Ok(_) => {}
        Err(never) => match never {},
    }
    let buffer = screen.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    let lines: Vec<String> = (0..height - 1).map(line).collect();
    let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |at| at + 1);
    lines[..end].join("\n")
}
