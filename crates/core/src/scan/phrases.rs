//! What is written into descriptions to lead a model astray: a short list of patterns in English and Chinese, each with
//! a name that people are told instead of the text. A pattern earns its place by attacks that were seen and by what it leaves
//! alone: descriptions may say which tool to call first, that a key is needed, or that nothing is sent to anybody.

use std::sync::LazyLock;

use regex::{RegexSet, RegexSetBuilder};

use super::FindKind::{self, HiddenMarkup, Instructions};

/// Most memory the compiled patterns may take, in bytes.
const MAX_BYTES: usize = 32 << 20;

/// The kinds and names of the patterns that match, each at most once. `text` has single spaces and no line ends.
pub(super) fn found_in(text: &str) -> Vec<(FindKind, &'static str)> {
    let mut found: Vec<(FindKind, &'static str)> = Vec::new();
    for i in &SET.matches(text) {
        let (kind, name, _) = PATTERNS[i];
        if !found.contains(&(kind, name)) {
            found.push((kind, name));
        }
    }
    found
}

static SET: LazyLock<RegexSet> = LazyLock::new(|| {
    let mut builder = RegexSetBuilder::new(PATTERNS.iter().map(|(_, _, pattern)| pattern));
    builder.case_insensitive(true).size_limit(MAX_BYTES).dfa_size_limit(MAX_BYTES);
    builder.build().expect("the patterns are constant, and a test builds them")
});

const PATTERNS: &[(FindKind, &str, &str)] = &[
    (HiddenMarkup, "a comment", r"<!--|\[(?://|comment)\]: ?[#<(]"),
    (
        HiddenMarkup,
        "a hidden element",
        r"<[a-z]+ [^>]{0,200}(?:display ?: ?none|visibility ?: ?hidden|font-size ?: ?0|opacity ?: ?0)|<(?:script|iframe|template)\b[^>]{0,200}>|data:text/html",
    ),
    (
        HiddenMarkup,
        "an image that is fetched",
        r"!\[[^\]]{0,200}\]\( ?https?://|<img [^>]{0,200}src ?= ?.?https?://",
    ),
    (
        HiddenMarkup,
        "marks of a conversation's roles",
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|>|\[/?INST\]|<</?SYS>>|\b(?:human|assistant): .{0,400}\b(?:human|assistant): ",
    ),
    (
        HiddenMarkup,
        "an element that speaks to the model",
        r"< ?/? ?(?:important|system|system-prompt|system_prompt|secret|hidden|instructions?|critical|admin|assistant|developer|sudo)(?: [^>]{0,100})?>",
    ),
    (
        Instructions,
        "to ignore what it was told",
        r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:previous|prior|above|earlier|preceding|existing|original|all (?:other|your)|any other|system|your)\b.{0,30}\b(?:instructions?|prompts?|rules|guidelines|directives|policies|constraints)\b",
    ),
    (
        Instructions,
        "to keep something from people",
        r"\b(?:do not|don't|never|must not|should not|avoid|without)\b.{0,20}\b(?:tell|telling|mention|mentioning|inform|informing|reveal|revealing|disclose|disclosing|letting)\b.{0,40}\b(?:user|users|human|humans|operator|person)\b",
    ),
    (
        Instructions,
        "to keep something from people",
        r"\b(?:hide|conceal)\b.{0,40}\bfrom (?:the )?(?:users?|humans?|operators?)\b|\bkeep (?:this|it) (?:a )?(?:secret|hidden)\b|\b(?:user|human) (?:must|should|does|do) not (?:know|see|notice|be told)\b",
    ),
    (
        Instructions,
        "to read what holds credentials",
        r"\b(?:read|open|cat|load|copy|send|include|attach|paste|provide|pass|upload|fetch|access)\b.{0,60}(?:~|\$home|/root|/home/[a-z0-9_-]+|/users/[a-z0-9_-]+)/\.(?:ssh|aws|gnupg|kube|netrc|config/gcloud|cursor|docker)\b",
    ),
    (
        Instructions,
        "to read what holds credentials",
        r"\b(?:read|open|cat|load|copy|send|include|attach|paste|provide|pass|upload|fetch)\b.{0,60}(?:/etc/(?:passwd|shadow)\b|\bid_(?:rsa|ed25519)\b|\bmcp\.json\b|/proc/self/environ)",
    ),
    (
        Instructions,
        "to read something before the tool is used",
        r"\bbefore (?:using|calling|invoking|running|you (?:use|call|invoke|run)) (?:this|any|every|the|other)\b.{0,40}\b(?:tools?|functions?)\b.{0,60}\b(?:read|open|cat|load|collect|gather)\b.{0,60}(?:[~/\\.][a-z0-9_/.-]{2,}|\b(?:files?|conversation|secrets?|credentials?|environment)\b)",
    ),
    (
        Instructions,
        "to pass the conversation on",
        r"\b(?:pass|put|include|send|provide|place|insert|copy|write|append|enter|fill|supply|forward)\b.{0,60}\b(?:(?:entire|full|whole|complete|previous) (?:conversation|chat|context|messages?|prompt)|conversation history|chat history|message history|system prompt|system message|environment variables)\b.{0,60}\b(?:in|into|as|to|with)\b",
    ),
    (
        Instructions,
        "to pass a file's contents on",
        r"\b(?:contents?|text) (?:of|from) (?:the )?(?:file|[~/])\S{0,80}.{0,40}\b(?:as|in|into) (?:the )?.{0,3}\b(?:sidenote|side_note|note|context|metadata|feedback|reason|summary|debug)\b",
    ),
    (
        Instructions,
        "to show its instructions",
        r"\b(?:reveal|print|output|repeat|show|leak|return|tell)\b.{0,30}\b(?:your|the (?:model|assistant|agent)'s) (?:system prompt|hidden instructions|initial instructions|initial prompt|instructions|system message)\b",
    ),
    (
        Instructions,
        "to act in secret",
        r"\b(?:you|the (?:assistant|model|agent|llm|ai)) (?:must|should|shall|will|have to|need to|are to)\b.{0,20}\b(?:secretly|silently|covertly|quietly)\b|\b(?:secretly|covertly) (?:send|call|copy|read|forward|upload|add|use)\b",
    ),
    (
        Instructions,
        "to be used in place of others",
        r"\b(?:always|only|must)\b.{0,20}\b(?:use|call|prefer|choose|invoke|select)\b.{0,10}\bthis (?:tool|function|server|one)\b.{0,30}\b(?:instead of|rather than|over|and never)\b.{0,30}\b(?:any|all|every|each|other|others|the other)\b",
    ),
    (
        Instructions,
        "about other tools",
        r"\bwhen(?:ever)? (?:using|calling|you (?:use|call)|any|another|other)\b.{0,40}\b(?:other|another|any other|different) (?:tools?|functions?|servers?)\b.{0,80}\b(?:must|always|change|replace|redirect|instead|bcc|also (?:send|call|add))\b",
    ),
    (
        Instructions,
        "to take another part",
        r"\byou are now (?:a|an|in|the|my)\b|\bfrom now on,? (?:you|always|never|respond|ignore|act)\b|\bpretend (?:to be|that you|you are)\b|\b(?:new|updated|real|actual|true) (?:system )?(?:instructions|prompt) ?:",
    ),
    (
        Instructions,
        "to ignore what it was told",
        r"(?:忽略|無視|无视|忘記|忘记|忘掉|不要理會|不要理会|不用理會|不必遵守|不要遵守|不要遵循|別管|别管).{0,12}(?:之前|先前|以上|上述|前面|原本|原先|系統|系统|所有|任何|其他|你的).{0,8}(?:指令|指示|提示|規則|规则|命令|要求|限制)",
    ),
    (
        Instructions,
        "to keep something from people",
        r"(?:不要|不得|不可|不能|請勿|请勿|切勿|別|别|無須|无须|不必).{0,4}(?:告訴|告诉|告知|透露|提及|提到|洩漏給|讓|让).{0,8}(?:使用者|用戶|用户|人類|人类|操作員|操作员|對方|对方)|(?:瞞著|隱瞞|瞒着|隐瞒|瞞過).{0,6}(?:使用者|用戶|用户|人類|人类)|對.{0,4}(?:使用者|用戶)保密",
    ),
    (
        Instructions,
        "to read something before the tool is used",
        r"(?:使用|呼叫|調用|调用|執行|执行)(?:本|這個|这个|此|任何|其他)?(?:工具|函式|函數|函数|功能)(?:之)?前.{0,16}(?:讀取|读取|打開|打开|開啟|蒐集|收集|附上).{0,24}(?:~/|/etc/|\.ssh|\.env|金鑰|密鑰|密钥|憑證|凭证|密碼|密码|對話|对话|檔案|文件|環境變數|环境变量)",
    ),
    (
        Instructions,
        "to pass the conversation on",
        r"(?:把|將|将).{0,8}(?:對話|对话|聊天紀錄|聊天记录|系統提示|系统提示|之前的訊息|先前的訊息|環境變數|环境变量|金鑰|密鑰|密钥|憑證|密碼|檔案內容|文件内容).{0,20}(?:放入|放進|填入|寫入|写入|傳入|传入|附在|附上|放到|帶入|一併傳).{0,16}(?:參數|参数|欄位|字段|備註|备注|註解)",
    ),
    (
        Instructions,
        "to show its instructions",
        r"(?:洩漏|泄漏|洩露|輸出|输出|顯示|显示|透露|複述|重複).{0,6}(?:你的)?(?:系統提示|系统提示|系統指令|系统指令|初始指令)",
    ),
    (
        Instructions,
        "to act in secret",
        r"(?:偷偷|暗中|悄悄|祕密|秘密)地?.{0,10}(?:傳送|发送|發送|寄送|寄給|傳給|呼叫|讀取|读取|上傳|上传|轉發|转发|加入)",
    ),
    (
        Instructions,
        "to take another part",
        r"(?:從現在|从现在|自現在)(?:起|開始|开始).{0,4}(?:你|一律|都要)|你現在(?:是|扮演)|你现在(?:是|扮演)|(?:新的|真正的)(?:系統)?指令(?:是|：|:)",
    ),
    (
        Instructions,
        "to be used in place of others",
        r"(?:一律|永遠|永远|總是|总是|只能|務必|必須).{0,6}(?:使用|呼叫|調用|选择|選擇)(?:本|這個|这个|此)(?:工具|函式|伺服器).{0,10}(?:取代|代替|而不是|而非|不要).{0,6}(?:其他|別的|其它|任何)",
    ),
];
