// ProcessGroupGloo.hpp includes this header of gloo, which the wheel lacks, for names only: no gloo type is held by value, and nothing here
// is ever called or constructed by us. (See gloo_collectives.cpp.)
#pragma once
