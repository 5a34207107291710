//! A real Chromium, driven over a pipe in its own protocol: no port, no driver, nothing to fetch.

use std::cell::RefCell;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How long an answer may take; software rendering on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// The browser to test with: `UNMIX_CHROMIUM`, else `chromium` in the PATH. Without one a test is skipped, on CI it fails.
pub fn find() -> Option<PathBuf> {
    if let Some(path) = env::var_os("UNMIX_CHROMIUM") {
        return Some(path.into());
    }
    let found = env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("chromium")).find(|file| file.is_file());
    assert!(found.is_some() || env::var_os("CI").is_none(), "there is no chromium in the PATH, and this is CI");
    if found.is_none() {
        println!("SKIPPED: there is no chromium in the PATH, and UNMIX_CHROMIUM names none");
    }
    found
}

/// A running browser with one page open.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    /// What the page said since it was opened: console messages, errors, and addresses it asked for.
    pub heard: RefCell<Vec<String>>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it.
    pub fn start(path: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The pipe's ends are to be the descriptors 3 and 4; a shell can say so.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null"])
            .arg(path)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--no-first-run", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, messages) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            // Messages end with a zero byte.
            for message in output.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take().unwrap();
        let mut browser = Self { child, input, messages, calls: 0, session: None, heard: RefCell::default(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let session = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens a file in a window of the given width, light or dark, and forgets what was heard before.
    pub fn open(&mut self, file: &Path, width: u32, scheme: &str) {
        self.heard.borrow_mut().clear();
        let window = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", window);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        self.call("Page.navigate", json!({ "url": format!("file://{}", file.display()) }));
        while self.evaluate("document.readyState") != "complete" || self.evaluate("location.protocol") != "file:" {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The value of a JavaScript expression.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// A part of the page as it looks: x, y, width, height.
    pub fn screenshot(&mut self, [x, y, width, height]: [f64; 4]) -> image::RgbImage {
        let clip = json!({ "x": x, "y": y, "width": width, "height": height, "scale": 1 });
        let answer = self.call("Page.captureScreenshot", json!({ "clip": clip, "captureBeyondViewport": true }));
        image::load_from_memory(&bytes(&answer)).unwrap().to_rgb8()
    }

    /// The page on A4 paper.
    pub fn pdf(&mut self) -> Vec<u8> {
        bytes(&self.call("Page.printToPDF", json!({ "paperWidth": 8.27, "paperHeight": 11.69, "printBackground": true })))
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.messages.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.hear(&answer);
        }
    }

    fn hear(&self, event: &Value) {
        let params = &event["params"];
        let words = match event["method"].as_str().unwrap_or_default() {
            "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded" => params.to_string(),
            "Network.requestWillBeSent" => format!("asked for {}", params["request"]["url"].as_str().unwrap_or_default()),
            _ => return,
        };
        self.heard.borrow_mut().push(words);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // With the pipe closed it would end too; this waits for it, so that its profile can be removed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes(answer: &Value) -> Vec<u8> {
    STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
}

/// Keeps pictures where `UNMIX_REPORT_PICTURES` names a folder, for looking at them.
pub fn keep(name: &str, bytes: &[u8]) {
    if let Some(folder) = env::var_os("UNMIX_REPORT_PICTURES") {
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }
}
