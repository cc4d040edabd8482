//! A page of documentation as its reader meets it: fenced blocks, and the marks (HTML comments) right before them.

use std::path::Path;

/// What a mark says about the block below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// From here on the reader works in a new, empty folder.
    EmptyFolder,
    /// From here on the reader works in the folder that the page began in.
    FirstFolder,
    /// The block's one command is a server: it runs on until the page ends.
    Background,
    /// The block's commands are listed in `NOT_RUN`, and only that they exist is checked.
    NotRun,
    /// The block is a script or config that is wrong on purpose: this is a part of what is said about it.
    Wrong(String),
    /// The block is the whole text of this file.
    File(String),
    /// The block goes to the end of this file.
    Append(String),
    /// Each top-level section of the block goes below the section of the same name in this file.
    AddTo(String),
    /// The block is the text of this file of the repository.
    SameAs(String),
}

impl Mark {
    fn read(comment: &str, at: &str) -> Mark {
        match comment.split_once(": ") {
            Some(("file", path)) => return Mark::File(path.to_owned()),
            Some(("append", path)) => return Mark::Append(path.to_owned()),
            Some(("add to", path)) => return Mark::AddTo(path.to_owned()),
            Some(("wrong on purpose", said)) => return Mark::Wrong(said.to_owned()),
            Some(("same as", path)) => return Mark::SameAs(path.to_owned()),
            _ => {}
        }
        match comment {
            "in an empty folder" => Mark::EmptyFolder,
            "in the first folder" => Mark::FirstFolder,
            "background" => Mark::Background,
            "not run" => Mark::NotRun,
            _ => panic!("{at}: nobody knows the mark `{comment}`"),
        }
    }
}

/// A fenced block.
#[derive(Debug, Clone)]
pub struct Block {
    /// Where the block's first line stands, as `page:line`.
    pub at: String,
    pub language: String,
    pub marks: Vec<Mark>,
    /// The lines between the fences, each with its end.
    pub text: String,
}

impl Block {
    pub fn is(&self, mark: &Mark) -> bool {
        self.marks.contains(mark)
    }

    /// Whether the block stands by itself: no mark makes it a part of a walk-through.
    pub fn is_fragment(&self) -> bool {
        self.marks.iter().all(|mark| matches!(mark, Mark::Wrong(_)))
    }

    /// What is said about a block that is wrong on purpose.
    pub fn wrong(&self) -> Option<&str> {
        self.marks.iter().find_map(|mark| match mark {
            Mark::Wrong(said) => Some(said.as_str()),
            _ => None,
        })
    }
}

/// A command of a console block, and what it should print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    /// The command, without the prompt.
    pub command: String,
    /// The lines below it, with wildcards.
    pub expected: Vec<String>,
    /// The exit code, from a comment `# exit code N`.
    pub exit: i32,
}

/// Reads a console block.
pub fn commands(block: &Block) -> Vec<Typed> {
    let mut commands: Vec<Typed> = Vec::new();
    let mut continued = false;
    for line in block.text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push(Typed { command: command.to_owned(), expected: Vec::new(), exit: 0 });
        } else {
            let last = commands.last_mut().unwrap_or_else(|| panic!("{}: the block begins with `$ `", block.at));
            if continued {
                last.command.push('\n');
                last.command.push_str(line);
            } else {
                last.expected.push(line.to_owned());
                continue;
            }
        }
        continued = line.ends_with('\\');
    }
    for typed in &mut commands {
        if let Some((_, code)) = typed.command.rsplit_once("# exit code ") {
            typed.exit = code.trim().parse().unwrap_or_else(|_| panic!("{}: `{code}` is not an exit code", block.at));
        }
    }
    commands
}

/// The blocks of a page.
pub fn blocks(root: &Path, page: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(root.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    read(page, &text)
}

fn read(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut marks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let at = format!("{page}:{}", at + 1);
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            marks.push(Mark::read(comment, &at));
        } else if let Some(language) = line.strip_prefix("```") {
            let text = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            blocks.push(Block { at, language: language.to_owned(), marks: std::mem::take(&mut marks), text });
        } else if !line.is_empty() {
            assert!(marks.is_empty(), "{at}: a mark stands right before a block");
        }
    }
    blocks
}

/// Puts each top-level section of `block` below the section of the same name in `file`, or at the end where there is none.
pub fn add_sections(file: &str, block: &str) -> String {
    let is_head = |line: &str| line.ends_with(':') && line.starts_with(|c: char| c.is_ascii_alphabetic());
    let mut whole = file.to_owned();
    let mut section = String::new();
    let mut put = |head: &str, body: &str| {
        let head = format!("{head}\n");
        let found = if whole.starts_with(&head) { Some(0) } else { whole.find(&format!("\n{head}")).map(|at| at + 1) };
        match found {
            Some(at) => whole.insert_str(at + head.len(), body),
            None => whole.push_str(&format!("\n{head}{body}")),
        }
    };
    let mut head = None;
    for line in block.lines() {
        if is_head(line) {
            if let Some(head) = head.replace(line) {
                put(head, &std::mem::take(&mut section));
            }
        } else {
            assert!(head.is_some(), "`{line}` is in no section");
            section.push_str(line);
            section.push('\n');
        }
    }
    put(head.expect("the block has a section"), &section);
    whole
}

#[test]
fn blocks_are_read_with_their_marks_and_commands() {
    let text = "Text.\n\n<!-- in an empty folder -->\n<!-- file: a.yaml -->\n```yaml\na: 1\n```\n```console\n$ one \\\n  two\nout\n\n$ bad # exit code 3\n```\n";
    let blocks = read("page.md", text);
    assert_eq!(blocks[0].at, "page.md:5");
    assert_eq!(blocks[0].marks, [Mark::EmptyFolder, Mark::File("a.yaml".to_owned())]);
    assert_eq!(blocks[0].text, "a: 1\n");
    let typed = commands(&blocks[1]);
    assert_eq!(typed[0], Typed { command: "one \\\n  two".to_owned(), expected: vec!["out".to_owned(), String::new()], exit: 0 });
    assert_eq!((typed[1].exit, typed[1].expected.len()), (3, 0));
}

#[test]
fn sections_go_below_those_of_the_same_name() {
    let file = "app: x\nevents:\n  a: {}\nfunctions:\n  f: {}\n";
    let whole = add_sections(file, "events:\n  b: {}\nfunctions:\n  g: {}\nenv:\n  K: v\n");
    assert_eq!(whole, "app: x\nevents:\n  b: {}\n  a: {}\nfunctions:\n  g: {}\n  f: {}\n\nenv:\n  K: v\n");
}
