//! Values that a name makes secret though no sign connects the two, and the same in what is none.

use crate::{masked, noise};

fn check(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(masked(text), *expected, "for {text}");
    }
}

fn stays(texts: &[&str]) {
    for text in texts {
        assert_eq!(masked(text), *text);
    }
}

#[test]
fn a_name_stands_for_every_string_of_its_list() {
    check(&[
        (
            r#"{"password":["Harbor-1","x",["sunset77"]],"n":1}"#,
            r#"{"password":["[SECRET]","x",["[SECRET]"]],"n":1}"#,
        ),
        (r#""{\"api_key\":[\"a1b2c3d4e5\"]}""#, r#""{\"api_key\":[\"[SECRET]\"]}""#),
        ("passwords = ['Harbor-1', 'sunset77'] # both", "passwords = ['[SECRET]', '[SECRET]'] # both"),
        (r#"{"password":["Harbor-1"#, r#"{"password":["[SECRET]"#),
    ]);
    stays(&[
        r#"{"password":["is too short","is required"]}"#,
        r#"{"passwords":[{"type":"string"},{"n":1}],"x":["y"]}"#,
        r#"Win32_Security_Credentials = ["Win32_Security"]"#,
    ]);
}

#[test]
fn a_name_that_is_a_value_names_the_value_beside_it() {
    check(&[
        (
            r#"log {"name": "DB_PASSWORD", "value": "sunset"}"#,
            r#"log {"name": "DB_PASSWORD", "value": "[SECRET]"}"#,
        ),
        (
            r#"log {"value": "sunset", "name": "DB_PASSWORD"}"#,
            r#"log {"value": "[SECRET]", "name": "DB_PASSWORD"}"#,
        ),
        (
            r#"log {"key":"token","type":"x","value":"sunset"}"#,
            r#"log {"key":"token","type":"x","value":"[SECRET]"}"#,
        ),
        (r#"<add key="Password" value="sunset"/>"#, r#"<add key="Password" value="[SECRET]"/>"#),
        ("<input value='sunset' name='password'>", "<input value='[SECRET]' name='password'>"),
        ("- name: DB_PASSWORD\n  value: Harbor2222!\n", "- name: DB_PASSWORD\n  value: [SECRET]\n"),
    ]);
    stays(&[
        r#"log {"name": "city", "value": "sunset"} {"name": "password"}"#,
        r#"log {"value": "sunset"}, {"name": "DB_PASSWORD"}"#,
        r#"<input name="password" value="">"#,
        "name = \"password\"; let mut value = read(b\"12345\");",
    ]);
}

#[test]
fn calls_and_pairs_of_strings_give_a_name_its_value() {
    check(&[
        ("client.setPassword(\"Harbor2222!\");", "client.setPassword(\"[SECRET]\");"),
        ("define('DB_PASSWORD', 'Harbor2222!');", "define('DB_PASSWORD', '[SECRET]');"),
        ("(\"X-Api-Key\", \"a1b2c3d4e5\")", "(\"X-Api-Key\", \"[SECRET]\")"),
    ]);
    stays(&[
        "getpass.getpass('Password: ')",
        "get_secret(\"database-2\") read_token('name-1234')",
        "t.pass(\"tests/01-parse-header.rs\");",
        "[\"password\", \"username\", \"email2\"]",
    ]);
}

#[test]
fn statements_and_commands_give_their_password_away() {
    check(&[
        ("ALTER ROLE app WITH PASSWORD 'sunset';", "ALTER ROLE app WITH PASSWORD '[SECRET]';"),
        ("CREATE USER 'app'@'%' IDENTIFIED BY 'sunset';", "CREATE USER 'app'@'%' IDENTIFIED BY '[SECRET]';"),
        ("machine db login app password sunset", "machine db login app password [SECRET]"),
        ("git config --global http.password sunset", "git config --global http.password [SECRET]"),
        ("curl -u app:sunset https://x.org/", "curl -u app:[SECRET] https://x.org/"),
        ("curl --user 'app:sunset' https://x.org/", "curl --user 'app:[SECRET]' https://x.org/"),
        ("sshpass -p sunset ssh app@host", "sshpass -p [SECRET] ssh app@host"),
        ("password -> Harbor2222!", "password -> [SECRET]"),
        ("PWD=Xb8iqR3WjWDdXya2", "PWD=[SECRET]"),
    ]);
    stays(&[
        "docker run -u 1000:1000 x; curl -u $USER:$PASS https://x.org/",
        "the resource is identified by name and by 'kind'",
        "git config the password helper; login or password part",
        "PWD=/home/app OLDPWD=/srv/app-2024",
    ]);
}

#[test]
fn prose_and_tables_name_values_that_look_random() {
    check(&[
        ("| password | Xb8iqR3WjWDdXya2 |", "| password | [SECRET] |"),
        ("The **password** is **Harbor2222!**.", "The **password** is **[SECRET]**."),
        ("Their API key - Xb8iqR3WjWDdXya2 - was", "Their API key - [SECRET] - was"),
        ("noted (access token Xb8iqR3WjWDdXya2). The", "noted (access token [SECRET]). The"),
        ("accessToken: TPimTe^HtIbYKL", "accessToken: [SECRET]"),
    ]);
    stays(&[
        "| password | string | required |\n| token | oauth2-proxy | no |",
        "the access token Response, a client secret oauth2.Config, password sha256_password",
        "The API key - a long text - is required. **password** is required",
        "PublicKey|Ed448PublicKey key: the key",
        "a two-pass memchr2+SWAR search, token bucket-2",
    ]);
}

#[test]
fn names_in_other_languages_are_names() {
    check(&[
        ("密碼為Harbor2222!，謝謝", "密碼為[SECRET]，謝謝"),
        ("密码（Harbor2222!）與", "密码（[SECRET]）與"),
        ("API 金鑰 Xb8iqR3WjWDdXya2。", "API 金鑰 [SECRET]。"),
        ("密碼 Ｈａｒｂｏｒ２２２２！。", "密碼 [SECRET]！。"),
        ("パスワード：Harbor2222!", "パスワード：[SECRET]"),
        ("비밀번호: Harbor2222!", "비밀번호: [SECRET]"),
        ("Passwort: Harbor2222!", "Passwort: [SECRET]"),
        ("contraseña: Harbor2222!", "contraseña: [SECRET]"),
        ("mot de passe : Harbor2222!", "mot de passe : [SECRET]"),
        ("senha: Harbor2222!", "senha: [SECRET]"),
        ("Пароль: Harbor2222!", "Пароль: [SECRET]"),
    ]);
}

#[test]
fn quotes_that_are_doubled_hold_a_value() {
    check(&[
        ("a,\"password=\"\"Harbor 2!\"\"\",b", "a,\"password=\"\"[SECRET]\"\"\",b"),
        ("('password=''Harbor 2!'' x')", "('password=''[SECRET]'' x')"),
        ("sh -c 'password='\\''Harbor 2!'\\'' x'", "sh -c 'password='\\''[SECRET]'\\'' x'"),
        ("password = \"\"\"Harbor 2!\"\"\"", "password = \"\"\"[SECRET]\"\"\""),
        (
            "1,\"config[\"\"token\"\"] = \"\"a1b2c3d4e5\"\"\"",
            "1,\"config[\"\"token\"\"] = \"\"[SECRET]\"\"\"",
        ),
    ]);
    stays(&["password=\"\" host=\"db\"", "{\"password\":\"\",\"n\":\"\"}", "f(password='', user='x')"]);
}

#[test]
fn source_code_beside_secret_names_stays() {
    stays(&[
        r#"{"errors":{"token":"has expired"}}"#,
        "https://<user>:<password>@example.org/",
        "password: windows_core::PCWSTR, pwd: *mut passwd",
        "const WAKE_TOKEN: Token = Token(1024);",
        "let token2 = token1.clone(); let secret = vec![42u8; 8];",
        "colon2_token: node.colon2_token,",
        "self._signing_key = key[:16]",
        "f\"password {attrs[2]}\"",
        "/// Map of `Token` -> `TcpStream`.",
    ]);
}

#[test]
fn a_name_of_several_words_stands_in_a_cell_and_between_asterisks() {
    let secret = format!("KIzz8zMdmJZxbJV7Uk8G{}", "Sf0GSRI68eEEErTulT+S");
    for (before, behind) in
        [("| AWS secret access key | ", " |\n"), ("The **AWS secret access key** is **", "**.")]
    {
        let text = format!("{before}{secret}{behind}");
        assert_eq!(masked(&text), format!("{before}[SECRET]{behind}"));
    }
    for text in ["| reset the password | required |", "The **user password** is **required**."] {
        assert_eq!(masked(text), text);
    }
}

#[test]
fn what_a_mask_brings_nearer_to_a_command_is_read_again() {
    let token = format!("ghp_{}", noise(36));
    for words in 20..40 {
        let text = format!("curl {token} {} -u bob:Hx7pQz22kk http://h/", "a word ".repeat(words));
        let once = masked(&text);
        assert_eq!(masked(&once), once);
    }
}

#[test]
fn a_list_is_walked_over_whatever_stands_between_its_strings() {
    for (text, expected) in [
        (
            r#"{"passwords":["aB3xY9kLm2",null,"LEAKb7Xq2Zt9"]}"#,
            r#"{"passwords":["[SECRET]",null,"[SECRET]"]}"#,
        ),
        (
            r#"{"passwords":["aB3xY9kLm2", 12, "LEAKb7Xq2Zt9"]}"#,
            r#"{"passwords":["[SECRET]", 12, "[SECRET]"]}"#,
        ),
        (
            r#"{"passwords":["aB3xY9kLm2","]LEAKb7Xq2Zt9","LEAK7z7Z7z"]}"#,
            r#"{"passwords":["[SECRET]","[SECRET]","[SECRET]"]}"#,
        ),
        (r#"{"passwords":["]aB3xY9kLm2","x7z7Z7zQ"]}"#, r#"{"passwords":["[SECRET]","[SECRET]"]}"#),
        (r#"passwords = [b"aB3xY9kLm2", b"LEAK7z7Z7z"]"#, r#"passwords = [b"[SECRET]", b"[SECRET]"]"#),
    ] {
        // within a text, where no JSON document is read
        assert_eq!(masked(&format!("got {text} from it")), format!("got {expected} from it"));
    }
}
