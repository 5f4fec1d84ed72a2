//! Rust source seen as three layers: code, comments, texts. Just enough of a lexer for rules about style: it knows
//! strings (raw, byte and C ones too), characters beside lifetimes, and nested comments, and never fails.

use std::ops::Range;

/// A source file, split. The layers have as many lines as the file, and each character stands in one of them at its
/// place; the other layer has a blank there.
pub(crate) struct Source {
    /// Code alone: comments and the insides of strings are blank.
    pub(crate) code: String,
    /// Comments alone.
    pub(crate) comments: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Layer {
    Code,
    Comment,
    Text,
}

impl Source {
    pub(crate) fn scan(text: &str) -> Self {
        let letters: Vec<char> = text.chars().collect();
        let mut code = String::with_capacity(text.len());
        let mut comments = String::with_capacity(text.len());
        let mut at = 0;
        while at < letters.len() {
            let (layer, end) = next_piece(&letters, at);
            for &letter in &letters[at..end] {
                let in_layer = |wanted: Layer| if letter == '\n' || layer == wanted { letter } else { ' ' };
                code.push(in_layer(Layer::Code));
                comments.push(in_layer(Layer::Comment));
            }
            at = end;
        }
        Source { code, comments }
    }

    /// Every name or number in the code, with its range in bytes.
    pub(crate) fn words(&self) -> Vec<(Range<usize>, &str)> {
        words_of(&self.code)
    }

    /// The line, from 1, of a byte of the code.
    pub(crate) fn line_at(&self, byte: usize) -> usize {
        self.code[..byte].matches('\n').count() + 1
    }

    /// Each function with a body: its name, its first line and its length in lines.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let words = self.words();
        let mut functions = Vec::new();
        for pair in words.windows(2) {
            let [(keyword, "fn"), (name, name_text)] = pair else { continue };
            // `fn(` is a type. A name follows after blanks only.
            if !self.code[keyword.end..name.start].trim().is_empty() {
                continue;
            }
            if let Some(end) = body_end(&self.code, name.end) {
                let (first, last) = (self.line_at(keyword.start), self.line_at(end));
                functions.push(((*name_text).to_owned(), first, last - first + 1));
            }
        }
        functions
    }
}

/// Names and numbers of any text, with their ranges in bytes.
pub(crate) fn words_of(text: &str) -> Vec<(Range<usize>, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, letter) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, letter == '_' || letter.is_alphanumeric()) {
            (None, true) => start = Some(at),
            (Some(first), false) => {
                words.push((first..at, &text[first..at]));
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// The layer of the piece that begins at `at`, and where it ends.
fn next_piece(letters: &[char], at: usize) -> (Layer, usize) {
    let starts = |text: &str| text.chars().enumerate().all(|(i, c)| letters.get(at + i) == Some(&c));
    if starts("//") {
        let end = letters[at..].iter().position(|&c| c == '\n').map_or(letters.len(), |length| at + length);
        return (Layer::Comment, end);
    }
    if starts("/*") {
        return (Layer::Comment, block_comment_end(letters, at));
    }
    let in_word = at > 0 && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_');
    if !in_word && let Some(end) = raw_string_end(letters, at) {
        return (Layer::Text, end);
    }
    match letters[at] {
        '"' => (Layer::Text, quoted_end(letters, at, '"')),
        '\'' => match character_end(letters, at) {
            Some(end) => (Layer::Text, end),
            None => (Layer::Code, at + 1), // a lifetime
        },
        _ => (Layer::Code, at + 1),
    }
}

fn block_comment_end(letters: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < letters.len() {
        match (letters[at], letters.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    letters.len()
}

/// `r"…"`, `br#"…"#`, `cr##"…"##`: no escapes, ends at a quote with as many `#`.
fn raw_string_end(letters: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    if matches!(letters.get(at), Some('b' | 'c')) {
        at += 1;
    }
    if letters.get(at) != Some(&'r') {
        return None;
    }
    at += 1;
    let hashes = letters[at..].iter().take_while(|&&c| c == '#').count();
    at += hashes;
    if letters.get(at) != Some(&'"') {
        return None; // `r#name`, or a word that begins with r
    }
    at += 1;
    while at < letters.len() {
        let closes = letters[at] == '"'
            && letters[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
        at += 1;
        if closes {
            return Some(at + hashes);
        }
    }
    Some(letters.len())
}

fn quoted_end(letters: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 2,
            letter if letter == quote => return at + 1,
            _ => at += 1,
        }
    }
    letters.len()
}

/// `'x'` and `'\n'` are characters, `'x` is a lifetime.
fn character_end(letters: &[char], start: usize) -> Option<usize> {
    match (letters.get(start + 1), letters.get(start + 2)) {
        (Some('\\'), _) => Some(quoted_end(letters, start, '\'')),
        (Some(_), Some('\'')) => Some(start + 3),
        _ => None,
    }
}

/// The byte of the brace that closes the body after `from`; `None` if a `;` comes first: there is no body.
fn body_end(code: &str, from: usize) -> Option<usize> {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, letter) in code[from..].char_indices() {
        match letter {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            ';' if braces == 0 && others == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(from + at);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn strings_and_comments_are_not_code() {
    let text = r####"let a = "unsafe { \" }"; // unsafe {
let b = r#"unsafe " {"#; /* unsafe /* nested */ unsafe */ let c = b"x" ; let d = br"unsafe\"; let e = c"unsafe";"####;
    let source = Source::scan(text);
    assert!(!source.code.contains("unsafe"), "{}", source.code);
    assert!(source.code.contains("let c =") && source.code.contains("let e ="), "{}", source.code);
    assert_eq!(source.comments.matches("unsafe").count(), 3);
    assert_eq!(source.code.lines().count(), text.lines().count());
}

#[test]
fn characters_and_lifetimes_are_told_apart() {
    let source = Source::scan(
        r"fn f<'a>(x: &'a str) { let q = '{'; let e = '\''; let u = '\u{7b}'; let s: &'static str = y; }",
    );
    assert_eq!(source.code.matches('{').count(), 1, "{}", source.code);
    assert!(source.code.contains("'static str"));
    assert!(source.words().iter().any(|(_, word)| *word == "r") || source.functions().len() == 1);
}

#[test]
fn words_that_look_like_prefixes_stay_code() {
    let source = Source::scan("let bar = r#type; let number = 1; let r = radius;");
    assert!(source.code.contains("r#type") && source.code.contains("radius"));
    let source = Source::scan("println!(r\"{\"); let é = 'é'; // ü {");
    assert!(!source.code.contains('{'), "{}", source.code);
}

#[test]
fn functions_have_names_and_lengths() {
    let text = "trait T {\n    fn none(&self) -> [u8; 4];\n}\nimpl T {\n    fn one<F: Fn(u8) -> u8>(f: F)\n    where\n        F: Copy,\n    {\n        \
                let t: fn(u8) = g; // }\n        if x { \"}\" } else { y }\n    }\n    fn two() {}\n}\n";
    let functions = Source::scan(text).functions();
    assert_eq!(functions, [("one".to_owned(), 5, 7), ("two".to_owned(), 12, 1)]);
}

#[test]
fn what_never_ends_is_no_panic() {
    for text in ["/* /*", "\"abc\\", "r##\"x\"#", "'", "'\\", "fn f() {", "fn", "b", "r"] {
        let source = Source::scan(text);
        assert!(source.functions().is_empty());
    }
}
