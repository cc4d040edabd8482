//! The shared Rhai engine: its packages, limits and hooks, and the handler API registered in it.

use std::cell::Cell;

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicBlobPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage, BasicMathPackage,
    BasicStringPackage, BitFieldPackage, LanguageCorePackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{Engine, LexError, OptimizationLevel, Token};

use crate::base::limits::CALL_LEVELS;
use crate::rules::row::LogLevel;

use super::check::Names;
use super::import::Imports;
use super::{Natives, api, attempt, error, time};

/// How deep expressions may lie in each other, outside of functions and in them.
const EXPRESSION_DEPTH: usize = 64;
/// Variables in scope at once.
const VARIABLES_MOST: usize = 1_000;
/// Functions of one handler file, closures included.
const FUNCTIONS_MOST: usize = 1_000;
/// Files that one run may import.
const MODULES_MOST: usize = 100;

/// Builds the engine. It has no clock, no randomness and no I/O but what the API gives it: Rhai's time package is left
/// out, and its `sleep` and `exit` are replaced.
pub(super) fn build(add: impl FnOnce(&mut Natives<'_>)) -> (Engine, Names) {
    let mut engine = bare();
    engine.set_max_call_levels(CALL_LEVELS);
    engine.set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH);
    // No limits on the sizes of texts, arrays and maps: with any, Rhai counts a whole value at each change of it, and the
    // memory account bounds them all.
    engine.set_max_variables(VARIABLES_MOST);
    engine.set_max_functions(FUNCTIONS_MOST);
    engine.set_max_modules(MODULES_MOST);
    engine.set_strict_variables(true);
    engine.set_optimization_level(OptimizationLevel::Simple);
    engine.disable_symbol("eval");
    engine.set_module_resolver(Imports);

    engine.on_progress(|_| attempt::on_progress());
    engine.on_print(|text| say(LogLevel::Info, text));
    engine.on_debug(|text, _, _| say(LogLevel::Debug, text));
    #[allow(deprecated, reason = "Rhai marks what it calls volatile so; without this hook `log::debug` does not parse")]
    engine.on_parse_token(|token, _, _| any_word(token));

    time::register(&mut engine);
    error::register(&mut engine);
    api::register(&mut engine);
    let mut natives = Natives { engine: &mut engine, extra: Vec::new() };
    add(&mut natives);
    let extra = natives.extra;
    let names = Names::of(&engine, &extra);
    (engine, names)
}

/// An engine that parses texts for the checks and runs nothing: what it gives is not simplified, so that all that was
/// written is there with its place, and unknown variables stop nothing.
pub(super) fn reader() -> Engine {
    let mut engine = Engine::new_raw();
    engine.set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH);
    engine.set_max_variables(VARIABLES_MOST);
    engine.set_max_functions(FUNCTIONS_MOST);
    engine.set_optimization_level(OptimizationLevel::None);
    engine.disable_symbol("eval");
    #[allow(deprecated, reason = "as in the engine that runs")]
    engine.on_parse_token(|token, _, _| any_word(token));
    engine
}

/// An engine with Rhai's own functions alone.
pub(super) fn bare() -> Engine {
    // Without an interner of strings: it is one lock for all threads, and Rhai waits for it by sleeping.
    let mut engine = Engine::new_raw();
    LanguageCorePackage::new().register_into_engine(&mut engine);
    ArithmeticPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicFnPackage::new().register_into_engine(&mut engine);
    BitFieldPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicBlobPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    engine
}

fn say(level: LogLevel, text: &str) {
    if let Some(attempt) = attempt::running() {
        attempt.log(level, text, None);
    }
}

thread_local! {
    /// Whether the last token of the text that is parsed on this thread was `.`, `?.` or `::`.
    static AFTER_DOT: Cell<bool> = const { Cell::new(false) };
}

/// To be called before a text is parsed on this thread: the one before may have ended in a dot.
pub(super) fn begin_text() {
    AFTER_DOT.set(false);
}

/// Lets every word stand after `.`, `?.` and `::`: otherwise `log::debug`, `event.data.default` and `.in` do not parse.
fn any_word(token: Token) -> Token {
    if !AFTER_DOT.replace(matches!(token, Token::Period | Token::Elvis | Token::DoubleColon)) {
        return token;
    }
    match &token {
        Token::Reserved(word) if is_word(word) => Token::Identifier(word.clone()),
        // A word that is disabled is an error before it comes here; as a field or a method it has no meaning of its own.
        Token::LexError(error) => match &**error {
            LexError::ImproperSymbol(word, _) if is_word(word) => Token::Identifier(Box::new(word.as_str().into())),
            _ => token,
        },
        token if token.is_literal() && is_word(token.literal_syntax()) => Token::Identifier(Box::new(token.literal_syntax().into())),
        _ => token,
    }
}

fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
