//! Writes a report of made-up data to the path that is given: `cargo run -p report --example demo -- demo.html`.

mod data;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: demo PATH")?;
    std::fs::write(path, report::render(&data::demo())?)?;
    Ok(())
}
