//! What the syntax tree alone says of a script: the steps of its chains, the bodies of its functions, and which of its variables
//! may change.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rhai::{AST, ASTFlags, ASTNode, Expr, FnCallExpr, Stmt};

use super::{Function, call_of, curried, innermost, root_variable};

/// Methods that change what they are called on, into something of another shape.
pub(super) const CHANGES: [&str; 24] = [
    "append",
    "clear",
    "chop",
    "crop",
    "dedup",
    "drain",
    "extract",
    "fill_with",
    "insert",
    "mixin",
    "order",
    "order_by",
    "pad",
    "pop",
    "push",
    "remove",
    "replace",
    "retain",
    "reverse",
    "set",
    "shift",
    "sort",
    "splice",
    "truncate",
];
/// Functions and methods that leave their first argument, or what they are called on, as it is.
const LEAVES: [&str; 48] = [
    "abs",
    "all",
    "as_string",
    "bytes",
    "call",
    "ceiling",
    "chars",
    "contains",
    "debug",
    "ends_with",
    "filter",
    "find",
    "find_map",
    "floor",
    "format",
    "get",
    "index_of",
    "is_empty",
    "keys",
    "len",
    "map",
    "max",
    "min",
    "parse_float",
    "parse_int",
    "print",
    "reduce",
    "reduce_rev",
    "round",
    "some",
    "split",
    "split_rev",
    "starts_with",
    "sub_string",
    "to_array",
    "to_binary",
    "to_chars",
    "to_debug",
    "to_float",
    "to_hex",
    "to_int",
    "to_json",
    "to_lower",
    "to_string",
    "to_upper",
    "type_of",
    "values",
    "zip",
];

/// A step of a chain such as `a.b[0].c()`.
pub(super) struct Link<'a> {
    pub(super) is_dot: bool,
    pub(super) is_safe: bool,
    pub(super) expression: &'a Expr,
}

/// Takes a chain apart: what it begins with, and its steps.
pub(super) fn flatten(expression: &Expr) -> (&Expr, Vec<Link<'_>>) {
    let (parts, flags, is_dot) = match expression {
        Expr::Dot(parts, flags, _) => (parts, *flags, true),
        Expr::Index(parts, flags, _) => (parts, *flags, false),
        other => return (other, Vec::new()),
    };
    let (root, mut links) = flatten(&parts.lhs);
    let (mut rest, mut flags, mut is_dot) = (&parts.rhs, flags, is_dot);
    loop {
        let is_safe = flags.contains(ASTFlags::NEGATED);
        match rest {
            // After a bracket that ends the chain, the rest is the index itself.
            Expr::Dot(next, more, _) | Expr::Index(next, more, _) if is_dot || !flags.contains(ASTFlags::BREAK) => {
                links.push(Link { is_dot, is_safe, expression: &next.lhs });
                (is_dot, flags) = (matches!(rest, Expr::Dot(..)), *more);
                rest = &next.rhs;
            }
            last => {
                links.push(Link { is_dot, is_safe, expression: last });
                return (root, links);
            }
        }
    }
}

/// A function of the file: the names of its parameters, what a closure captures first, and its statements.
pub(super) struct Body {
    pub(super) parameters: Vec<String>,
    pub(super) statements: Vec<Stmt>,
}

/// Functions by their names, then by their numbers of parameters: there may be several of one name.
pub(super) type Bodies = BTreeMap<String, BTreeMap<usize, Rc<Body>>>;

/// The functions of a file, closures included. Rhai keeps their statements to itself, and shows them one after another; they are
/// told apart by where they stand.
pub(super) fn bodies(ast: &AST) -> Bodies {
    let places: Vec<Function> = ast.shared_lib().iter_script_fn_info().map(|(.., function)| Function::of(function)).collect();
    let mut bodies: BTreeMap<(String, usize), Body> = BTreeMap::new();
    for (.., definition) in ast.shared_lib().iter_script_fn_info() {
        let parameters: Vec<String> = definition.params.iter().map(ToString::to_string).collect();
        bodies.insert((definition.name.to_string(), parameters.len()), Body { parameters, statements: Vec::new() });
    }
    let top = ast.statements().as_ptr_range();
    ast.walk(&mut |path| {
        if let [ASTNode::Stmt(statement)] = path
            && !top.contains(&std::ptr::from_ref::<Stmt>(statement))
            && let Some(function) = innermost(&places, statement.position())
            && let Some(body) = bodies.get_mut(&(function.name.clone(), function.parameters))
        {
            body.statements.push((*statement).clone());
        }
        true
    });
    let mut named = Bodies::new();
    for ((name, count), body) in bodies {
        named.entry(name).or_default().insert(count, Rc::new(body));
    }
    named
}

/// How the variables of a file may differ from what they were made with, by their names.
#[derive(Default)]
pub(super) struct Changes {
    /// Those that are assigned somewhere, or changed into something of another shape.
    shape: BTreeSet<String>,
    /// Those that something may be done to that keeps their types alone, such as `trim` with a text.
    value: BTreeSet<String>,
}

impl Changes {
    /// What happens to the variables of a file. `functions` are its own; `is_known` says that a function is the handler API's,
    /// which changes none of its arguments.
    pub(super) fn of(ast: &AST, functions: &Bodies, is_known: &dyn Fn(&str) -> bool) -> Changes {
        let mut changes = Changes::default();
        ast.walk(&mut |path| {
            match path.last() {
                Some(ASTNode::Stmt(Stmt::Assignment(parts))) => {
                    changes.shape.extend(root_variable(&parts.1.lhs).map(str::to_owned));
                }
                Some(ASTNode::Expr(chain @ (Expr::Dot(..) | Expr::Index(..)))) => {
                    let (root, links) = flatten(chain);
                    let Expr::Variable(variable, ..) = root else { return true };
                    for link in links {
                        if let Expr::MethodCall(call, _) = link.expression {
                            // A function of the file may do anything with its `this`.
                            changes.note(&variable.1, &call.name, functions.contains_key(call.name.as_str()));
                        }
                    }
                }
                // Rhai hands a variable to its own functions by reference, where it is the first argument.
                Some(node) => {
                    if let Some((call, _)) = call_of(node)
                        && let Some(Expr::Variable(variable, ..)) = call.args.first()
                        && !(call.is_operator_call() || call.is_qualified() || call.name == "curry" || call.name.contains('$'))
                        && !(functions.contains_key(call.name.as_str()) || is_known(&call.name))
                    {
                        changes.note(&variable.1, &call.name, false);
                    }
                }
                None => {}
            }
            true
        });
        changes
    }

    /// Notes that a function or method of this name is given a variable by reference.
    fn note(&mut self, variable: &str, name: &str, does_anything: bool) {
        if does_anything || CHANGES.contains(&name) {
            self.shape.insert(variable.to_owned());
        } else if !LEAVES.contains(&name) {
            self.value.insert(variable.to_owned());
        }
    }

    /// Whether nothing is known of a variable of this name.
    pub(super) fn of_shape(&self, name: &str) -> bool {
        self.shape.contains(name)
    }

    /// Whether no more than its type is known of a variable of this name.
    pub(super) fn of_value(&self, name: &str) -> bool {
        self.value.contains(name)
    }
}

/// The variables that a closure shares with the code around it: all that it captures.
pub(super) fn shares(expression: &Expr) -> Vec<&str> {
    let Expr::Stmt(block) = expression else { return Vec::new() };
    let shared = block.iter().map(|statement| match statement {
        Stmt::Share(variables) => variables.iter().map(|(variable, _)| variable.as_str()).collect(),
        // A block with nothing but the closure in it.
        Stmt::Expr(inner) => shares(inner),
        _ => Vec::new(),
    });
    shared.flatten().collect()
}

/// Whether a statement is the last one of the loop around it; and whether of all loops, since it leaves the function.
pub(super) fn leaves(statement: &Stmt) -> Option<bool> {
    match statement {
        Stmt::Return(..) => Some(true),
        Stmt::BreakLoop(_, flags, _) if flags.contains(ASTFlags::BREAK) => Some(false),
        _ => None,
    }
}

/// How many variables a closure captures.
pub(super) fn captures(expression: &Expr) -> usize {
    let of_call = |call: &FnCallExpr| curried(call).map(|_| call.args.len().saturating_sub(1));
    match expression {
        Expr::Stmt(block) => block
            .iter()
            .find_map(|statement| match statement {
                Stmt::Expr(inner) => Some(captures(inner)),
                Stmt::FnCall(call, _) => of_call(call),
                _ => None,
            })
            .unwrap_or(0),
        Expr::FnCall(call, _) => of_call(call).unwrap_or(0),
        _ => 0,
    }
}
