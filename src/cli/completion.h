// Completion scripts for shells, made from the commands themselves, so that they cannot fall behind.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <string>

namespace ravine::cli {

// `shell` is bash, zsh or fish.
std::string completion_script(const CLI::App& root, std::string_view shell);

}  // namespace ravine::cli
