//! Values as ssh_config(5) takes them.

/// Returns an option of ssh_config(5) with its value as one word: ssh splits it at white space that is not in quotes.
pub fn option(name: &str, value: &str) -> [String; 2] {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%~$".contains(c);
    let value = if value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    };
    ["-o".to_owned(), format!("{name}={value}")]
}
