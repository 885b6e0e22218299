# Layers: base <- pool <- serial <- channels <- runtime. A layer includes only from itself and those before it.
#
# The compiler enforces it: a layer's files do not see the repository but a folder of their own in the build directory,
# layers/LAYER/, with links to the permitted folders and public headers. What is not permitted is not there; for the public
# headers and those of NNG and msgpack-c a file that says #error stands there instead, so that a copy installed in the
# system is not found either. A `../` in an include would get around the links: cmake/check_includes.cmake refuses it.
set(CUE_LAYERS base pool serial channels runtime)

# Public headers of a layer; one that is not named belongs to the runtime.
set(CUE_HEADERS_base error.h)
set(CUE_HEADERS_pool pool.h)
set(CUE_HEADERS_serial serial.h)
set(CUE_HEADERS_channels channel.h)

# Headers of libraries that only one layer may use.
set(CUE_FOREIGN nng/nng.h msgpack.h msgpack/pack.h msgpack/object.h msgpack/unpack.h msgpack/sbuffer.h msgpack/zone.h)

function(cue_forbid file text)
    file(CONFIGURE OUTPUT "${file}" CONTENT "#error \"${text}\"\n" @ONLY)
endfunction()

function(cue_layer_folder result layer foreign)
    set(folder "${PROJECT_BINARY_DIR}/layers/${layer}")
    string(REGEX REPLACE "_.*" "" own "${layer}")
    file(REMOVE_RECURSE "${folder}")
    file(MAKE_DIRECTORY "${folder}/cuelight")
    set(named "")
    set(permitted TRUE)
    foreach(other IN LISTS CUE_LAYERS)
        if(permitted)
            file(CREATE_LINK "${PROJECT_SOURCE_DIR}/${other}" "${folder}/${other}" SYMBOLIC)
        endif()
        foreach(header IN LISTS CUE_HEADERS_${other})
            list(APPEND named ${header})
            if(permitted)
                file(CREATE_LINK "${PROJECT_SOURCE_DIR}/include/cuelight/${header}" "${folder}/cuelight/${header}" SYMBOLIC)
            else()
                cue_forbid("${folder}/cuelight/${header}" "${own}/ may not include <cuelight/${header}>, which is of ${other}/")
            endif()
        endforeach()
        if(other STREQUAL own)
            set(permitted FALSE)
        endif()
    endforeach()
    file(GLOB headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}/include/cuelight" "${PROJECT_SOURCE_DIR}/include/cuelight/*.h")
    list(REMOVE_ITEM headers ${named})
    foreach(header IN LISTS headers)
        if(own STREQUAL "runtime")
            file(CREATE_LINK "${PROJECT_SOURCE_DIR}/include/cuelight/${header}" "${folder}/cuelight/${header}" SYMBOLIC)
        else()
            cue_forbid("${folder}/cuelight/${header}" "${own}/ may not include <cuelight/${header}>, which is of runtime/")
        endif()
    endforeach()
    cue_forbid("${folder}/cuelight.h" "${own}/ may not include <cuelight.h>: it holds all the layers")
    foreach(header IN LISTS CUE_FOREIGN)
        string(REGEX REPLACE "[./].*" "" family "${header}")
        if(NOT family IN_LIST foreign)
            cue_forbid("${folder}/${header}" "${layer} may not include <${header}>")
        endif()
    endforeach()
    set(${result} "${folder}" PARENT_SCOPE)
endfunction()

# cue_layer(NAME [FOLDER dir] [FOREIGN nng|msgpack LINK target...]): the object library cue_NAME of all sources in the folder.
function(cue_layer name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "FOLDER" "FOREIGN;LINK")
    set(dir "${CMAKE_CURRENT_SOURCE_DIR}/${arg_FOLDER}")
    file(GLOB sources CONFIGURE_DEPENDS "${dir}/*.c")
    file(GLOB headers CONFIGURE_DEPENDS "${dir}/*.h")
    cue_layer_folder(folder ${name} "${arg_FOREIGN}")
    if(NOT sources)
        return()
    endif()
    add_library(cue_${name} OBJECT ${sources} ${headers})
    target_include_directories(cue_${name} PRIVATE "${folder}")
    target_link_libraries(cue_${name} PRIVATE cue_flags ${arg_LINK})
    add_custom_command(OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/${name}.includes"
        COMMAND ${CMAKE_COMMAND} "-DFILES=${sources};${headers}" "-DSTAMP=${CMAKE_CURRENT_BINARY_DIR}/${name}.includes"
                -P "${PROJECT_SOURCE_DIR}/cmake/check_includes.cmake"
        DEPENDS ${sources} ${headers} "${PROJECT_SOURCE_DIR}/cmake/check_includes.cmake" VERBATIM
        COMMENT "Checking the includes of ${name}")
    add_custom_target(cue_${name}_includes DEPENDS "${CMAKE_CURRENT_BINARY_DIR}/${name}.includes")
    add_dependencies(cue_${name} cue_${name}_includes)
    set_property(GLOBAL APPEND PROPERTY CUE_OBJECTS cue_${name})
    set_property(GLOBAL APPEND PROPERTY CUE_LINKS ${arg_LINK})
endfunction()
