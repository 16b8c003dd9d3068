//! How the demo prints: plain text, made to be read from top to bottom.

use std::time::Duration;

use serde_json::Value;

/// A step of the demo.
pub(crate) fn heading(n: u32, text: &str) {
    println!("\n{n}. {text}");
}

/// A line below a heading.
pub(crate) fn line(text: &str) {
    println!("   {text}");
}

/// Seconds with a sensible number of places.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis if millis < 1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// A question, its answer, and what happened in between.
pub(crate) fn answer(question: &str, document: &Value, took: Duration) {
    println!("\n   > {question}");
    let answer = document["output"]["answer"].as_str().map(str::to_owned);
    for text in answer.unwrap_or_else(|| document["error"].to_string()).lines() {
        line(text);
    }
    steps(document);
    let run = &document["run"];
    line(&format!(
        "run {} {} in {} mode after {}",
        run["run_id"].as_str().unwrap_or_default(),
        run["state"].as_str().unwrap_or_default(),
        document["mode"].as_str().unwrap_or_default(),
        seconds(took),
    ));
}

/// A run's steps, one a line.
pub(crate) fn steps(document: &Value) {
    for step in document["steps"].as_array().into_iter().flatten() {
        println!("     {}", step_line(step));
    }
}

fn step_line(step: &Value) -> String {
    let text = |name: &str| step[name].as_str().unwrap_or_default();
    let (n, epoch, millis) = (&step["n"], &step["epoch"], &step["duration_ms"]);
    let head = format!("step {n}, epoch {epoch}: {:<4} ", text("kind"));
    let tail = match text("kind") {
        "tool" => format!("{} {}; {}", text("tool"), arguments(&step["input"]), gates(&step["gates"])),
        _ => format!("{}; {}", text("model"), tokens(&step["usage"])),
    };
    let status = match step["code"].as_str() {
        Some(code) => format!("{} {code}", text("status")),
        None => text("status").to_owned(),
    };
    format!("{head}{tail}; {status}, {millis} ms")
}

/// A tool's arguments, short.
fn arguments(input: &Value) -> String {
    let given = input.get("arguments").unwrap_or(input);
    let text = given.to_string();
    match text.char_indices().nth(90) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn tokens(usage: &Value) -> String {
    match (usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64()) {
        (Some(input), Some(output)) => format!("{input} tokens in, {output} out"),
        _ => String::new(),
    }
}

/// Which gates let the call pass, and which refused it.
fn gates(gates: &Value) -> String {
    let gates: Vec<&Value> = gates.as_array().into_iter().flatten().collect();
    match gates.iter().find(|gate| !gate["code"].is_null()) {
        Some(gate) => {
            let text = |name: &str| gate[name].as_str().unwrap_or_default();
            format!("gate {}: {}", text("gate"), text("code"))
        }
        None => format!("all {} gates passed", gates.len()),
    }
}

/// What somebody may want to do now.
pub(crate) fn next() {
    println!(
        "\nTry next, with the programs that were just built (see README.md):\n\
         \x20 awooop dev                                    start it and keep it running\n\
         \x20 awooop apply -f examples/ewoooc               the shop: read its short files first\n\
         \x20 awooop run shop-analyst \"...\" --project ewoooc --watch\n\
         \x20 awooop tools list --project ewoooc            its tools, and who may call them\n\
         \x20 awooop mcp config --client claude-code --agent shop-analyst --project ewoooc\n\
         \x20                                               give the agent's tools to an MCP client\n\
         \x20 awooop doctor                                 check every row the engine relies on"
    );
}
