//! What a Python pickle holds, without running it.
//!
//! A pickle is a program that builds objects. [`read`] plays its moves on a stack of nodes and calls nothing: a call stays a node with the name of
//! what would be called, its arguments, and all that would be put into the result. Whoever asks for tensors or arrays recognises their calls by
//! name. Every move makes at most one node, so memory is bounded by the length of the pickle.

use std::collections::HashMap;
use std::io::Read;

/// The place of a node.
pub type Id = usize;

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number; `None` beyond 64 bits.
    Int(Option<i64>),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes, or a string of Python 2.
    Bytes(Vec<u8>),
    /// A list, tuple or set.
    List(Vec<Id>),
    /// A dictionary.
    Dict(Vec<(Id, Id)>),
    /// A class or function, `module.name`.
    Global(String),
    /// What a call would give.
    Call(Box<Call>),
    /// An object that lies outside the pickle, by what names it.
    Outside(Id),
}

/// A call that is not made, and what is put into its result.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Call {
    /// What is called: a [`Node::Global`], or any other node.
    pub callee: Id,
    /// The arguments, a [`Node::List`].
    pub arguments: Id,
    /// What `__setstate__` gets.
    pub state: Option<Id>,
    /// What is appended.
    pub items: Vec<Id>,
    /// What is set by key.
    pub entries: Vec<(Id, Id)>,
}

/// All nodes of one pickle.
#[derive(Debug, Default)]
pub struct Pickle {
    nodes: Vec<Node>,
    /// The object that the pickle makes.
    pub root: Id,
}

impl Pickle {
    /// How many nodes there are; they are numbered from 0.
    #[allow(clippy::len_without_is_empty)] // a pickle that was read has its root
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A node.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// The name of a class or function.
    pub fn global(&self, id: Id) -> Option<&str> {
        if let Node::Global(name) = self.node(id) { Some(name) } else { None }
    }

    /// The name and the arguments of a call by name.
    pub fn call(&self, id: Id) -> Option<(&str, &[Id])> {
        let Node::Call(call) = self.node(id) else { return None };
        Some((self.global(call.callee)?, self.list(call.arguments)?))
    }

    /// The items of a list or tuple.
    pub fn list(&self, id: Id) -> Option<&[Id]> {
        if let Node::List(items) = self.node(id) { Some(items) } else { None }
    }

    /// A whole number that counts something.
    pub fn count(&self, id: Id) -> Option<usize> {
        if let Node::Int(Some(value)) = self.node(id) { usize::try_from(*value).ok() } else { None }
    }

    /// Text, or bytes that are text.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            Node::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Bytes, as any protocol writes them: protocols 0 to 2 encode them as text of Latin-1.
    pub fn bytes(&self, id: Id) -> Option<std::borrow::Cow<'_, [u8]>> {
        if let Node::Bytes(bytes) = self.node(id) {
            return Some(bytes.into());
        }
        let ("_codecs.encode", &[text, ..]) = self.call(id)? else { return None };
        let Node::Text(text) = self.node(text) else { return None };
        text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>().map(Into::into)
    }

    /// The entries of a dictionary, or of an object that is filled like one (`OrderedDict`, `defaultdict`, a subclass).
    pub fn entries(&self, id: Id) -> &[(Id, Id)] {
        match self.node(id) {
            Node::Dict(entries) => entries,
            Node::Call(call) => &call.entries,
            _ => &[],
        }
    }

    /// A key as a part of a name.
    pub fn key(&self, id: Id) -> String {
        match self.node(id) {
            Node::Text(text) => text.clone(),
            Node::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Node::None => "None".into(),
            Node::Bool(value) => if *value { "True" } else { "False" }.into(),
            Node::Int(Some(value)) => value.to_string(),
            Node::Int(None) => "?".into(),
            Node::Float(value) => value.to_string(),
            Node::List(items) => {
                let simple = |item: &Id| !matches!(self.node(*item), Node::List(_));
                let parts = items.iter().map(|item| if simple(item) { self.key(*item) } else { "(...)".into() });
                format!("({})", parts.collect::<Vec<_>>().join(", "))
            }
            Node::Global(name) => name.clone(),
            Node::Call(call) => self.global(call.callee).unwrap_or("?").to_owned(),
            Node::Dict(_) | Node::Outside(_) => "?".into(),
        }
    }

    /// The names of everything that would be called or loaded.
    pub fn globals(&self) -> impl Iterator<Item = &str> {
        (0..self.nodes.len()).filter_map(|id| self.global(id))
    }
}

/// Reads one pickle of any protocol from the start of `reader`, which stands behind it afterwards.
///
/// # Errors
/// An end before the pickle's own, a move that is not known, or one that the stack does not allow.
pub fn read(reader: &mut dyn Read) -> Result<Pickle, String> {
    let mut machine = Machine { reader, pickle: Pickle::default(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let code = machine.byte()?;
        if code == b'.' {
            machine.pickle.root = machine.pop()?;
            return Ok(machine.pickle);
        }
        machine.step(code)?;
    }
}

/// The longest text or bytes of a pickle: CIFAR-100 is one array of 154 MB.
const LONGEST: u64 = 1 << 30;

struct Machine<'a> {
    reader: &'a mut dyn Read,
    pickle: Pickle,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine<'_> {
    fn step(&mut self, code: u8) -> Result<(), String> {
        match code {
            0x80 => self.array::<1>().map(drop)?,
            0x95 => self.array::<8>().map(drop)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop_or_mark()?,
            b'1' => self.marked().map(drop)?,
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'I' | b'L' | b'J' | b'K' | b'M' | 0x8A | 0x8B | b'F' | b'G' => self.number(code)?,
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8C | 0x8D | b'B' | b'C' | 0x8E | 0x96 => self.characters(code)?,
            b']' | b')' | 0x8F => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            b'l' | b't' | 0x91 => {
                let items = self.marked()?;
                self.push(Node::List(items));
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or_else(empty)?;
                let items = self.stack.split_off(from);
                self.push(Node::List(items));
            }
            b'a' | b'e' | 0x90 => {
                let items = if code == b'a' { vec![self.pop()?] } else { self.marked()? };
                self.append(items)?;
            }
            b'd' | b's' | b'u' => self.set(code)?,
            b'c' | 0x93 | b'i' | b'o' | b'R' | 0x81 | 0x92 | b'b' => self.object(code)?,
            b'P' => {
                let name = self.line()?;
                let name = self.add(Node::Text(name));
                self.push(Node::Outside(name));
            }
            b'Q' => {
                let name = self.pop()?;
                self.push(Node::Outside(name));
            }
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.memo(code)?,
            _ => return Err(format!("unknown pickle move {code:#04x}")),
        }
        Ok(())
    }

    fn number(&mut self, code: u8) -> Result<(), String> {
        let node = match code {
            b'I' | b'L' => match self.line()?.trim_end_matches('L') {
                "00" => Node::Bool(false),
                "01" => Node::Bool(true),
                digits => Node::Int(digits.parse().ok()),
            },
            b'J' => Node::Int(Some(i32::from_le_bytes(self.array()?).into())),
            b'K' => Node::Int(Some(self.byte()?.into())),
            b'M' => Node::Int(Some(u16::from_le_bytes(self.array()?).into())),
            b'F' => Node::Float(self.line()?.parse().map_err(|_| "a number that is none")?),
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            _ => {
                let length = if code == 0x8A { self.byte()?.into() } else { u32::from_le_bytes(self.array()?).into() };
                let bytes = self.take(length)?;
                // Two's complement, the lowest byte first.
                let fill = if bytes.last().is_some_and(|&high| high >= 0x80) { 0xFF } else { 0 };
                let word: Option<[u8; 8]> =
                    (bytes.len() <= 8).then(|| std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(fill)));
                Node::Int(word.map(i64::from_le_bytes))
            }
        };
        self.push(node);
        Ok(())
    }

    fn characters(&mut self, code: u8) -> Result<(), String> {
        let node = match code {
            b'V' => Node::Text(self.line()?),
            b'S' => {
                let line = self.line()?;
                Node::Bytes(line.get(1..line.len().saturating_sub(1)).unwrap_or_default().as_bytes().to_vec())
            }
            _ => {
                let length = match code {
                    b'U' | 0x8C | b'C' => self.byte()?.into(),
                    b'T' | b'X' | b'B' => u32::from_le_bytes(self.array()?).into(),
                    _ => u64::from_le_bytes(self.array()?),
                };
                let bytes = self.take(length)?;
                // Lone surrogates are no UTF-8; a name may hold them.
                let text = matches!(code, b'X' | 0x8C | 0x8D);
                if text { Node::Text(String::from_utf8_lossy(&bytes).into_owned()) } else { Node::Bytes(bytes) }
            }
        };
        self.push(node);
        Ok(())
    }

    fn append(&mut self, mut items: Vec<Id>) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.pickle.nodes[top] {
            Node::List(list) => list.append(&mut items),
            Node::Call(call) => call.items.append(&mut items),
            _ => return Err("items are put into what is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, code: u8) -> Result<(), String> {
        let flat = if code == b's' {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.marked()?
        };
        if flat.len() % 2 == 1 {
            return Err("a key without a value".into());
        }
        let mut entries = flat.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        if code == b'd' {
            self.push(Node::Dict(entries));
            return Ok(());
        }
        let top = self.top()?;
        match &mut self.pickle.nodes[top] {
            Node::Dict(dict) => dict.append(&mut entries),
            Node::Call(call) => call.entries.append(&mut entries),
            _ => return Err("entries are put into what is no dictionary".into()),
        }
        Ok(())
    }

    fn object(&mut self, code: u8) -> Result<(), String> {
        let (callee, arguments) = match code {
            b'c' | b'i' => {
                let global = Node::Global(format!("{}.{}", self.line()?, self.line()?));
                if code == b'c' {
                    self.push(global);
                    return Ok(());
                }
                let arguments = self.marked()?;
                (self.add(global), self.add(Node::List(arguments)))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(name), Some(module)) = (self.pickle.text(name), self.pickle.text(module)) else {
                    return Err("a class without a name".into());
                };
                let global = Node::Global(format!("{module}.{name}"));
                self.push(global);
                return Ok(());
            }
            b'o' => {
                let mut marked = self.marked()?;
                if marked.is_empty() {
                    return Err("an object without a class".into());
                }
                let arguments = marked.split_off(1);
                (marked[0], self.add(Node::List(arguments)))
            }
            b'b' => {
                let (state, top) = (self.pop()?, self.top()?);
                // The state of a plain dictionary or list would be that of a subclass, of which the class is not known.
                if let Node::Call(call) = &mut self.pickle.nodes[top] {
                    call.state = Some(state);
                }
                return Ok(());
            }
            _ => {
                if code == 0x92 {
                    self.pop()?; // arguments by name
                }
                let arguments = self.pop()?;
                (self.pop()?, arguments)
            }
        };
        self.push(Node::Call(Box::new(Call { callee, arguments, ..Call::default() })));
        Ok(())
    }

    fn memo(&mut self, code: u8) -> Result<(), String> {
        let place = match code {
            b'p' | b'g' => self.line()?.parse().map_err(|_| "a place that is no number")?,
            b'q' | b'h' => self.byte()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?).into(),
            _ => self.memo.len() as u64,
        };
        if matches!(code, b'g' | b'h' | b'j') {
            let found = *self.memo.get(&place).ok_or("a place that nothing was put into")?;
            self.stack.push(found);
        } else {
            let top = self.top()?;
            self.memo.insert(place, top);
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> Id {
        self.pickle.nodes.push(node);
        self.pickle.nodes.len() - 1
    }

    fn push(&mut self, node: Node) {
        let id = self.add(node);
        self.stack.push(id);
    }

    /// The stack above the last mark only.
    fn top(&self) -> Result<Id, String> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(empty());
        }
        self.stack.last().copied().ok_or_else(empty)
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_or_mark(&mut self) -> Result<(), String> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    /// All above the last mark, which goes too.
    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let from = self.marks.pop().ok_or("no mark")?;
        Ok(self.stack.split_off(from))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|e| format!("the pickle ends early: {e}"))?;
        Ok(bytes)
    }

    /// So many bytes. What a length promises is not allocated before it is there.
    fn take(&mut self, length: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let read = if length > LONGEST { Ok(0) } else { (&mut *self.reader).take(length).read_to_end(&mut bytes) };
        read.map_err(|e| format!("the pickle ends early: {e}"))?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(format!("the pickle ends inside a text of {length} bytes")) }
    }

    fn line(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                byte => bytes.push(byte),
            }
        }
    }
}

fn empty() -> String {
    "the stack is empty".into()
}

#[cfg(test)]
mod tests;
