//! Keeps passwords out of messages that quote the arguments or `pglock.toml`.

use diesel_pglock::internal::{redact_conninfo, redact_text, url};

/// Redacts the arguments in a message: a URL is easily given in the wrong place.
pub fn redact_arguments(message: &str) -> String {
    let arguments = std::env::args_os().skip(1);
    arguments.fold(message.to_owned(), |message, argument| {
        redact_argument(&message, &argument.to_string_lossy())
    })
}

fn redact_argument(message: &str, argument: &str) -> String {
    let value = argument.split_once('=').map(|(_, value)| value);
    let texts = [Some(argument), value].into_iter().flatten();
    let secret = texts.filter(|text| may_hold_password(text));
    secret.fold(message.to_owned(), |message, text| {
        redact_text(&message.replace(text, &redacted(text)), text)
    })
}

fn redacted(text: &str) -> String {
    url(text).map_or_else(|| "…".to_owned(), |_| redact_conninfo(text))
}

/// Redacts the quotations in an error of the TOML parser: any of them may be a misplaced URL.
fn redact_quotations(message: &str) -> String {
    let before = message.split_once("string \"").map(|(before, _)| before);
    let after = message.rsplit_once("\", ").map(|(_, after)| after);
    match (before, after) {
        (Some(before), Some(after)) => redact_words(&format!("{before}string, {after}")),
        _ => redact_words(message),
    }
}

fn redact_words(message: &str) -> String {
    let redact = |word| if may_hold_password(word) { "…" } else { word };
    message.split(' ').map(redact).collect::<Vec<_>>().join(" ")
}

fn may_hold_password(text: &str) -> bool {
    let after_colon = text.split_once(':').map(|(_, rest)| rest);
    text.contains("://")
        || text.contains("password")
        || after_colon.is_some_and(|it| it.contains('@'))
}

/// Redacts the passwords of a file in an error about it, which may quote a part of any line.
pub fn redact_lines(message: &str, file: &str) -> String {
    let lines = file.lines().filter(|line| may_hold_password(line));
    lines.fold(redact_quotations(message), |message, line| {
        redact_text(&message, line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_redacted_whole_or_behind_its_option() {
        let redact =
            |argument: &str| redact_argument(&format!("invalid value '{argument}'"), argument);
        let url = "postgres://app:hunter2@host/db";
        assert_eq!(redact(url), "invalid value 'postgres://app:…@host/db'");
        assert_eq!(redact(&format!("--limit={url}")), "invalid value '…'");
        assert_eq!(redact("password=hunter2"), "invalid value '…'");
        assert_eq!(redact("colour=red"), "invalid value 'colour=red'");
    }

    #[test]
    fn a_quotation_is_left_out_of_an_error_of_the_parser() {
        let message = "invalid type: string \"a \"b\", x\", expected usize";
        let redacted = "invalid type: string, expected usize";
        assert_eq!(redact_quotations(message), redacted);
        assert_eq!(redact_quotations("no field `a://b`"), "no field …");
    }
}
