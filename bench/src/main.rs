//! `snowskin-bench`: see [`snowskin_bench::cli`].

fn main() -> std::process::ExitCode {
    snowskin_bench::cli::main()
}
