//! A headless Chromium, spoken to by WebDriver: the few calls that a test of one page needs.
//! <https://www.w3.org/TR/webdriver2/>

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Lines, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use ksched_local::parts;
use serde_json::{Value, json};

/// Where scripts/install-parts puts it in the cache.
const AXE: &str = "axe-core-4.14.1/axe.min.js";

/// Debian's chromium-driver, and one session of it.
pub(crate) struct Browser {
    driver: Child,
    /// Open for as long as it may write.
    _output: Lines<BufReader<ChildStdout>>,
    port: u16,
    session: String,
}

impl Browser {
    /// `None` where there is no chromium-driver. It ends with the calling thread.
    pub(crate) fn start() -> Option<Self> {
        Command::new("chromedriver").arg("--version").output().ok()?;
        let driver = ["--pdeathsig", "KILL", "chromedriver", "--port=0"];
        let mut driver = Command::new("setpriv").args(driver).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let port = port.expect("chromedriver tells no port");
        let mut browser = Self { driver, _output: lines, port, session: String::new() };
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": arguments } } } });
        let session = browser.call("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().expect("no session").to_owned();
        Some(browser)
    }

    pub(crate) fn open(&self, url: &str) {
        self.within("/url", &json!({ "url": url }));
    }

    /// As a window of this width whose user likes `scheme`, light or dark.
    pub(crate) fn pretend(&self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        for (command, parameters) in
            [("Emulation.setDeviceMetricsOverride", size), ("Emulation.setEmulatedMedia", media)]
        {
            self.within("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
        }
    }

    /// The value of a script's `return`.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.within("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a script hands to the function that is its last argument.
    pub(crate) fn run_async(&self, script: &str) -> Value {
        self.within("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns true, and says how long that took.
    pub(crate) fn until(&self, script: &str, limit: Duration) -> Duration {
        let began_at = Instant::now();
        while self.run(script) != json!(true) {
            let page = || self.run("return document.body.innerText");
            assert!(began_at.elapsed() < limit, "not within {limit:?}: {script}\n{:#}", page());
            std::thread::sleep(Duration::from_millis(100));
        }
        began_at.elapsed()
    }

    fn within(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let value = self.ask(method, path, body).unwrap();
        assert!(value["error"].is_null(), "{method} {path}: {value:#}");
        value
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let (body, port) = (body.to_string(), self.port);
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let length = body.len();
        let head = "Content-Type: application/json\r\nConnection: close";
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = Vec::new();
        // The driver may end the connection late; the answer's own length says where it ends.
        let mut part = [0; 65_536];
        loop {
            if let Some(value) = whole(&answer) {
                return Ok(value);
            }
            let read = stream.read(&mut part)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&part[..read]);
        }
    }
}

fn whole(answer: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    })?;
    (body.len() >= length).then(|| serde_json::from_str::<Value>(body).unwrap()["value"].clone())
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser.
        let _ = self.ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Where all is to be shown (`CI` is set), nothing may be left out.
pub(crate) fn skipped(why: &str) {
    assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{why}: scripts/install-parts test");
    eprintln!("SKIPPED: {why} (scripts/install-parts test)");
}

/// Asserts that axe-core finds nothing serious.
pub(crate) fn assert_accessible(browser: &Browser) {
    let script = parts::cache_dir().unwrap().join(AXE);
    let Ok(axe) = fs::read_to_string(script) else {
        return skipped("there is no axe-core");
    };
    let run = "const done = arguments[arguments.length - 1]; \
               axe.run().then(found => done(found.violations \
                   .filter(v => v.impact === 'serious' || v.impact === 'critical') \
                   .map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' '))));";
    browser.run(&axe);
    let found = browser.run_async(run);
    assert_eq!(found, Value::Array(Vec::new()), "{found:#}");
}
