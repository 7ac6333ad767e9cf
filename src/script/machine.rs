//! One Lua state, in which one script runs at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, LuaOptions, StdLib, Table, Thread, Value, VmState};

use super::host::Host;
use super::json;
use super::native::{self, Inside};
use super::running::Running;
use super::source::{Sha, Source};
use super::values;
use crate::resp::{Protocol, Reply};

/// Instructions between two looks whether a script is to end.
const LOOK_EVERY: u32 = 100_000;
/// Scripts that a machine keeps compiled.
const MAX_COMPILED: usize = 1_024;

/// Bytes that a machine without a script may hold.
const MAX_KEPT: usize = 8 << 20;

const PRELUDE: &str = include_str!("prelude.lua");

/// Whether scripts may be interrupted where a command runs elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pauses {
    /// No command runs elsewhere.
    Never,
    /// They may.
    Sometimes,
}

/// A script with what it is called with.
pub struct Task<'t> {
    /// The script.
    pub source: &'t Source,
    /// Its keys.
    pub keys: Vec<&'t [u8]>,
    /// Its other words.
    pub argv: Vec<&'t [u8]>,
    /// Who runs its commands.
    pub host: Box<dyn Host>,
    /// How others see it.
    pub running: Arc<Running>,
    /// In which protocol its reply is written.
    pub protocol: Protocol,
}

/// How far a script has come.
pub enum Step {
    /// To its end, with this reply.
    Done(BytesMut),
    /// To a command that runs elsewhere: [`Machine::resume`] brings its reply.
    Paused,
}

/// A function that a library has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// What it may do, in Redis's words.
    pub flags: Vec<String>,
}

/// A Lua state.
pub struct Machine {
    lua: Lua,
    inside: Arc<Inside>,
    pauses: Pauses,
    run: Function,
    begin: Function,
    run_function: Function,
    begin_function: Function,
    inspect: Function,
    of_libraries: Table,
    is_clean: Function,
    environment: Table,
    compiled: HashMap<Sha, Function>,
    paused: Option<Thread>,
    /// What a script yields that has come to a command which runs elsewhere.
    pause: Table,
    protocol: Protocol,
}

impl Machine {
    /// A fresh one, whose scripts hold at most so many bytes.
    pub fn new(pauses: Pauses, memory: usize) -> Self {
        Self::made(pauses, memory).expect("the prelude is sound, and there is memory for it")
    }

    fn made(pauses: Pauses, memory: usize) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        let inside = Arc::<Inside>::default();
        let native = native::all(&lua, &inside, pauses == Pauses::Sometimes)?;
        let pause = native.raw_get("pause")?;
        let made: Table = lua.load(PRELUDE).set_name("=prelude").call(native)?;
        let of = Arc::clone(&inside);
        let look = HookTriggers::new().every_nth_instruction(LOOK_EVERY);
        lua.set_global_hook(look, move |_, _| {
            let running = of.running.lock();
            if running.as_ref().is_some_and(|running| running.is_stopped()) {
                return Err(mlua::Error::runtime(
                    "Script killed by user with SCRIPT KILL.",
                ));
            }
            Ok(VmState::Continue)
        })?;
        lua.set_memory_limit(memory)?;
        Ok(Self {
            run: made.raw_get("run")?,
            begin: made.raw_get("begin")?,
            run_function: made.raw_get("run_function")?,
            begin_function: made.raw_get("begin_function")?,
            inspect: made.raw_get("inspect")?,
            of_libraries: made.raw_get("of_libraries")?,
            is_clean: made.raw_get("is_clean")?,
            environment: made.raw_get("environment")?,
            lua,
            inside,
            pauses,
            compiled: HashMap::new(),
            paused: None,
            pause,
            protocol: Protocol::default(),
        })
    }

    /// Compiles a script, unless that has been done.
    ///
    /// # Errors
    /// When it is no Lua; in the compiler's words.
    pub fn compile(&mut self, source: &Source) -> Result<(), String> {
        if self.compiled.contains_key(&source.sha) {
            return Ok(());
        }
        let (name, environment) = match source.function {
            Some(_) => ("@user_function", &self.of_libraries),
            None => ("@user_script", &self.environment),
        };
        let chunk = self.lua.load(source.code()).set_name(name);
        let chunk = chunk.set_mode(ChunkMode::Text);
        let function = chunk.set_environment(environment.clone()).into_function();
        let function = function.map_err(|error| match error {
            mlua::Error::SyntaxError { message, .. } => message,
            other => other.to_string(),
        })?;
        if self.compiled.len() >= MAX_COMPILED {
            self.compiled.clear();
        }
        self.compiled.insert(source.sha, function);
        Ok(())
    }

    /// The functions that a library registers, which was compiled.
    ///
    /// # Errors
    /// When it does not, or does something else; in Lua's words.
    pub fn inspect(
        &mut self,
        source: &Source,
        running: &Arc<Running>,
    ) -> Result<Vec<Registered>, String> {
        let plainly = |error: mlua::Error| error.to_string();
        let function = self.compiled.get(&source.sha).cloned();
        let function = function.ok_or("not compiled")?;
        *self.inside.running.lock() = Some(Arc::clone(running));
        let said = self.inspect.call(function);
        *self.inside.running.lock() = None;
        let (is_good, said): (bool, Value) = said.map_err(plainly)?;
        let Value::Table(said) = said else {
            return Err(said.to_string().map_err(plainly)?);
        };
        if !is_good {
            let why: String = said.raw_get("err").map_err(plainly)?;
            return Err(why);
        }
        let registered = |one: Table| {
            Ok(Registered {
                name: one.raw_get("name")?,
                description: one.raw_get("description")?,
                flags: one.raw_get("flags")?,
            })
        };
        let all = said.sequence_values::<Table>();
        let all: mlua::Result<Vec<Registered>> = all.map(|one| registered(one?)).collect();
        all.map_err(plainly)
    }

    /// Runs a script that was compiled.
    pub fn start(&mut self, task: Task<'_>) -> Step {
        self.protocol = task.protocol;
        *self.inside.host.lock() = Some(task.host);
        *self.inside.running.lock() = Some(task.running);
        self.inside.resp3.store(false, Ordering::Relaxed);
        *self.inside.json.lock() = json::Settings::default();
        let started = self.started(task.source, &task.keys, &task.argv);
        self.step(started)
    }

    fn list(&self, words: &[&[u8]]) -> mlua::Result<Table> {
        let table = self.lua.create_table_with_capacity(words.len(), 0)?;
        for (nth, word) in (1..).zip(words) {
            table.raw_set(nth, self.lua.create_string(word)?)?;
        }
        Ok(table)
    }

    /// Whether a script succeeded, and what it said; `None`: it has paused.
    fn started(
        &mut self,
        source: &Source,
        keys: &[&[u8]],
        argv: &[&[u8]],
    ) -> mlua::Result<Option<(bool, Value)>> {
        let function = self.compiled.get(&source.sha).cloned();
        let function = function.ok_or_else(|| mlua::Error::runtime("not compiled"))?;
        let (keys, argv) = (self.list(keys)?, self.list(argv)?);
        let (run, begin) = match source.function {
            Some(_) => (&self.run_function, &self.begin_function),
            None => (&self.run, &self.begin),
        };
        let words = (function, keys, argv, source.function.as_deref());
        if self.pauses == Pauses::Never {
            return run.call(words).map(Some);
        }
        let thread = self.lua.create_thread(begin.clone())?;
        let said: (Value, Value) = thread.resume(words)?;
        Ok(self.went_on(thread, said))
    }

    fn went_on(&mut self, thread: Thread, said: (Value, Value)) -> Option<(bool, Value)> {
        if thread.is_resumable() {
            if matches!(&said.0, Value::Table(said) if *said == self.pause) {
                self.paused = Some(thread);
                return None;
            }
            return Some((false, Value::Nil));
        }
        Some((said.0.as_boolean().unwrap_or_default(), said.1))
    }

    /// Goes on with a script that has paused: here is the reply that it waits for.
    pub fn resume(&mut self, reply: &[u8]) -> Step {
        let resumed = self.resumed(reply);
        self.step(resumed)
    }

    fn resumed(&mut self, reply: &[u8]) -> mlua::Result<Option<(bool, Value)>> {
        let thread = self.paused.take();
        let thread = thread.ok_or_else(|| mlua::Error::runtime("nothing has paused"))?;
        let answer = Inside::answer(&self.lua, reply)?;
        let said: (Value, Value) = thread.resume(answer)?;
        Ok(self.went_on(thread, said))
    }

    fn step(&mut self, found: mlua::Result<Option<(bool, Value)>>) -> Step {
        let mut reply = Reply::default();
        reply.set_protocol(self.protocol);
        let written = match found {
            Ok(None) => return Step::Paused,
            Ok(Some((true, value))) => {
                let resp3 = self.inside.resp3.load(Ordering::Relaxed);
                values::reply_with(&value, resp3, &mut reply)
            }
            Ok(Some((false, error))) => self.say(&error, &mut reply),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            reply.buffer().clear();
            reply.error(&format!("ERR {error}"));
        }
        *self.inside.running.lock() = None;
        Step::Done(std::mem::take(reply.buffer()))
    }

    /// Replies with an error as the handler made it.
    fn say(&self, error: &Value, reply: &mut Reply) -> mlua::Result<()> {
        let name = self
            .inside
            .running
            .lock()
            .as_ref()
            .map(|running| running.name.clone());
        let name = name.unwrap_or_default();
        if error.is_nil() {
            let why = "ERR attempt to yield across metamethod/C-call boundary";
            reply.error(&format!("{why} script: {name}"));
            return Ok(());
        }
        let Value::Table(table) = error else {
            // The handler itself failed: there was no memory left.
            reply.error(&format!("ERR {} script: {name}", error.to_string()?));
            return Ok(());
        };
        let message = match table.raw_get::<Value>("err")? {
            Value::String(text) => text.to_string_lossy(),
            _ => "ERR unknown error".to_owned(),
        };
        let source: Option<String> = table.raw_get("source")?;
        let line: Option<i64> = table.raw_get("line")?;
        reply.error(&match source.zip(line) {
            Some((source, line)) => format!("{message} script: {name}, on {source}:{line}."),
            None => format!("{message} script: {name}"),
        });
        Ok(())
    }

    /// The script has ended: nobody runs its commands any more.
    pub fn end(&mut self) {
        self.inside.host.lock().take();
    }

    /// Whether another script may run in it: the last one has left nothing behind.
    pub fn is_clean(&mut self) -> bool {
        if self.lua.used_memory() > MAX_KEPT {
            let collected = self.lua.gc_collect();
            if collected.is_err() || self.lua.used_memory() > MAX_KEPT {
                return false;
            }
        }
        self.paused.is_none() && self.is_clean.call(()).unwrap_or(false)
    }
}
