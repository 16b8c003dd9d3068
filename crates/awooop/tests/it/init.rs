//! From nothing to an agent with a tool of one's own, by `docs/your-first-agent.md`: the texts that the guide says to
//! paste are read from the guide itself.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use awooop_journeys::client::Api;
use awooop_journeys::process::Process;
use awooop_journeys::server::Home;
use serde_json::{Value, json};

use crate::support::root;

/// Blocks of code of the guide in one language, without their fences.
fn guide(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/your-first-agent.md")).unwrap();
    let opening = format!("```{language}\n");
    let blocks = text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// `tools.py` of a project, serving.
struct Tools {
    _process: Process,
    url: String,
}

impl Tools {
    /// Starts it; port 0 is a free one.
    fn start(project: &Path, port: u16) -> Tools {
        let log = project.join("tools.log");
        let mut command = Command::new("python3");
        command.arg(project.join("tools.py")).env("PORT", port.to_string());
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer).stderr(std::fs::File::create(&log).unwrap());
        let process = Process::spawn(&mut command).expect("python3 is there");
        drop(command);
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).unwrap();
        let url = line.trim_end().rsplit(' ').next().unwrap_or_default().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{line} {}", std::fs::read_to_string(&log).unwrap());
        Tools { _process: process, url }
    }

    fn port(&self) -> u16 {
        let port = self.url.trim_end_matches("/mcp").rsplit(':').next().unwrap();
        port.parse().unwrap()
    }
}

async fn ask(home: &Home, question: &str) -> Value {
    let (code, document) =
        home.cli_json(&["run", "assistant", question, "--project", "my-shop"]).await.unwrap();
    assert_eq!((code, &document["run"]["state"]), (0, &json!("completed")), "{question}: {document}");
    document["output"].clone()
}

fn edit(path: PathBuf, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(changed, text, "{}", path.display());
    std::fs::write(path, changed).unwrap();
}

/// Puts a block of the guide in the place of its first line.
fn paste(path: PathBuf, first: &str) {
    let blocks = guide("yaml");
    let block = blocks.iter().find(|block| block.trim_start().starts_with(first)).expect(first);
    let line = block.lines().next().unwrap();
    edit(path, |text| text.replace(&format!("{line}\n"), block));
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_the_first_agent_and_a_second_tool_work_as_the_guide_says() {
    let work = tempfile::tempdir().unwrap();
    let project = work.path().join("my-shop");
    let dir = project.to_str().unwrap().to_owned();
    let home = Home::new().unwrap();
    let made = home.command(&["init", &dir, "--json"]).output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&made["project_id"], &made["has_python"]), (&json!("my-shop"), &json!(true)));
    let tools = Tools::start(&project, 0);
    let home = home.env("TOOLS_URL", &tools.url);
    let server = home.start().await.expect("the server starts");

    let (code, applied) = home.cli_json(&["apply", "-f", &dir]).await.unwrap();
    assert_eq!(code, 0, "{applied}");
    for question in ["When do you open on Saturday?", "星期六幾點開門？"] {
        let output = ask(&home, question).await;
        assert_eq!(output["answer"], "On Saturday the shop is open from 09:30 to 21:00.", "{question}");
        assert_eq!(output["data"]["opens"], "09:30", "{question}");
    }

    let port = tools.port();
    drop(tools);
    let function = guide("python").remove(0);
    let mark = "# ---- The protocol";
    edit(project.join("tools.py"), |text| text.replace(mark, &format!("{function}\n\n{mark}")));
    let _tools = Tools::start(&project, port);
    paste(project.join("provider-tools.yaml"), "- { name: opening_hours");
    paste(project.join("agent.yaml"), "- { tool: tools__opening_hours");
    let (code, refused) = home.cli_json(&["apply", "-f", &dir]).await.unwrap();
    let error = &refused["error"]["errors"][0];
    assert_eq!(
        (code, &error["path"], &error["line"]),
        (2, &json!("/spec/grants/1/tool"), &json!(16)),
        "{refused}"
    );
    assert_eq!((&error["file"], &error["document"]), (&json!(format!("{dir}/agent.yaml")), &json!(1)));
    edit(project.join("agent.yaml"), |text| text.replace("shiping", "shipping"));
    let (code, applied) = home.cli_json(&["apply", "-f", &dir]).await.unwrap();
    assert_eq!((code, &applied["is_changed"]), (0, &json!(true)), "{applied}");
    for (question, answer) in [
        ("How much is shipping for a parcel of 5 kg?", "Sending 5 kg costs NT$160."),
        ("寄 3 公斤的包裹運費多少？", "Sending 3 kg costs NT$120."),
        ("When do you open on Saturday?", "On Saturday the shop is open from 09:30 to 21:00."),
    ] {
        assert_eq!(ask(&home, question).await["answer"], answer, "{question}");
    }
    let refused = ask(&home, "Shipping fee for 25 kg?").await;
    assert!(refused["answer"].as_str().unwrap().ends_with("parcels over 20 kg are not sent"), "{refused}");
    drop(server);
}

#[tokio::test]
async fn the_tool_server_speaks_the_protocol_and_survives_nonsense() {
    let work = tempfile::tempdir().unwrap();
    let dir = work.path().join("my-shop");
    let mut command = Command::new(env!("CARGO_BIN_EXE_awooop"));
    assert!(command.arg("init").arg(&dir).stdout(Stdio::null()).status().unwrap().success());
    let tools = Tools::start(&dir, 0);
    let api = Api::new(tools.url.trim_end_matches("/mcp"), None).unwrap();
    let send = async |headers: &[(&str, &str)], body: Value| {
        let answer = api.send("POST", "/mcp", headers, Some(&body)).await.unwrap();
        (answer.status, serde_json::from_str::<Value>(&answer.text).unwrap_or_default())
    };
    let ask = async |method: &str, params: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        let (status, answer) = send(&[], body).await;
        assert_eq!((status, &answer["id"]), (200, &json!(7)), "{answer}");
        answer
    };
    for (wanted, given) in [("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")] {
        let answer = ask("initialize", json!({"protocolVersion": wanted, "capabilities": {}})).await;
        assert_eq!(answer["result"]["protocolVersion"], given);
    }
    assert_eq!(ask("ping", json!({})).await["result"], json!({}));
    let listed = ask("tools/list", json!({})).await;
    let schema = &listed["result"]["tools"][0]["inputSchema"];
    assert_eq!(
        (&schema["required"], schema["properties"]["day"]["enum"][6].as_str()),
        (&json!(["day"]), Some("sunday"))
    );
    let called = ask("tools/call", json!({"name": "opening_hours", "arguments": {"day": "monday"}})).await;
    assert_eq!(called["result"]["structuredContent"]["is_open"], false, "{called}");
    for arguments in [json!({}), json!({"day": "someday"}), json!({"day": "monday", "more": 1})] {
        let called = ask("tools/call", json!({"name": "opening_hours", "arguments": arguments})).await;
        assert_eq!(called["result"]["isError"], true, "{called}");
    }
    assert_eq!(ask("tools/call", json!({"name": "nothing"})).await["error"]["code"], -32602);
    assert_eq!(ask("no/such", json!({})).await["error"]["code"], -32601);
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(send(&[], notification.clone()).await.0, 202);
    assert_eq!(send(&[("Origin", "http://evil.example")], notification).await.0, 403);
    for nonsense in [json!([]), json!("x"), json!(null)] {
        assert_eq!(send(&[], nonsense.clone()).await.0, 400, "{nonsense}");
    }
    assert_eq!(api.send("GET", "/mcp", &[], None).await.unwrap().status, 405);
    assert_eq!(ask("ping", json!({})).await["result"], json!({}), "it is still there");
}

#[test]
fn nothing_is_overwritten_and_a_name_that_cannot_be_is_refused() {
    let work = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_awooop"));
        let output =
            command.args(arguments).current_dir(work.path()).env("PATH", "/nonexistent").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned(), stderr)
    };
    for id in ["../x", "UPPER", "platform", ""] {
        assert_eq!(run(&["init", "new", "--project", id]).0, 2, "{id}");
    }
    assert!(!work.path().join("new").exists());
    let (code, stdout, stderr) = run(&["init", "--project", "shop"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("\n  python3 tools.py &\n  awooop apply -f .\n"), "{stdout}");
    assert!(stderr.contains("python3 is not on the PATH"), "{stderr}");
    let manifest = std::fs::read_to_string(work.path().join("agent.yaml")).unwrap();
    assert!(manifest.contains("project: shop\n"), "{manifest}");
    let (code, stdout, _) = run(&["init", "--json"]);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 2);
    assert!(
        document["error"]["detail"]
            .as_str()
            .unwrap()
            .contains("tools.py, README.md already; nothing was written")
    );
}
