// The version of Ravine, as `ravine version` prints it and as nodes tell each other.
#pragma once

#define RAVINE_VERSION "0.1.0"
