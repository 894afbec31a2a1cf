//! `sidetone`: command line, configuration, start-up and shutdown.

mod cli;
mod client;
mod doctor;
mod gateway;
mod metrics;
mod originate;
mod placing;
mod run;
mod signals;
mod token;
mod trunks;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, GatewayCommand, RunFlags, Subcommands};
use signaling::apps::Apps;
use signaling::config::{self, ConfigError, Plan};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Subcommands::Version) => {
            println!("sidetone {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(Subcommands::CheckConfig(flags)) => check_config(&flags),
        Some(Subcommands::Doctor(flags)) => match read_plan(&flags.run) {
            Ok(plan) => doctor::run(&plan, flags.json),
            Err(error) => refuse(&error),
        },
        Some(Subcommands::Gateway(flags)) => match &flags.command {
            Some(GatewayCommand::Status(flags)) => match read_plan(&flags.client.run) {
                Ok(plan) => gateway::status(&plan, flags),
                Err(error) => refuse(&error),
            },
            None => run_gateway(&flags.run),
        },
        Some(Subcommands::Originate(flags)) => match read_plan(&flags.client.run) {
            Ok(plan) => originate::run(&plan, &flags),
            Err(error) => refuse(&error),
        },
        Some(Subcommands::Token(flags)) => match read_plan(&flags.run) {
            Ok(plan) => token::run(&plan, &flags),
            Err(error) => refuse(&error),
        },
        None => match read_plan(&cli.run) {
            Ok(plan) => run::run(plan),
            Err(error) => refuse(&error),
        },
    }
}

/// Runs as a voice gateway.
fn run_gateway(flags: &RunFlags) -> ExitCode {
    match read_plan(flags) {
        Ok(plan) if plan.apps.agents.iter().all(|agent| agent.name == config::DEMO_AGENT) => {
            eprintln!(
                "error: no agent to reach; set {} to the resource's address, such as \
                 https://example.services.ai.azure.com, and AZURE_VOICELIVE_API_KEY to its key",
                config::AZURE_ENDPOINT
            );
            ExitCode::FAILURE
        }
        Ok(plan) => run::run(plan),
        Err(error) => refuse(&error),
    }
}

/// Prints what would run, or what is wrong.
fn check_config(flags: &RunFlags) -> ExitCode {
    match read_plan(flags) {
        Ok(plan) => {
            // The audio files are read as they would be at start.
            if let Err(error) = Apps::load(plan.apps.clone()) {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
            print!("{}", config::report(&plan));
            for warning in &plan.warnings {
                println!("warning: {warning}");
            }
            println!("configuration is good");
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error),
    }
}

fn read_plan(flags: &RunFlags) -> Result<Plan, ConfigError> {
    // A variable that is not text cannot be one of ours.
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let sources = flags.sources(environment);
    let loaded = config::load(&sources)?;
    config::plan(&loaded, &sources.environment)
}

fn refuse(error: &ConfigError) -> ExitCode {
    for problem in &error.problems {
        eprintln!("error: {problem}");
    }
    ExitCode::FAILURE
}
