# libcuelight.so and libcuelight.a, both of the same objects; cuelight::cuelight and cuelight::static.
get_property(layers GLOBAL PROPERTY CUE_OBJECTS)
get_property(links GLOBAL PROPERTY CUE_LINKS)
list(REMOVE_DUPLICATES links)
set(objects "")
foreach(layer IN LISTS layers)
    list(APPEND objects $<TARGET_OBJECTS:${layer}>)
endforeach()

add_library(cuelight SHARED ${objects})
add_library(cuelight_static STATIC ${objects})
set_target_properties(cuelight PROPERTIES
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}
    LINKER_LANGUAGE C
    LINK_DEPENDS "${PROJECT_SOURCE_DIR}/cmake/cuelight.map")
set_target_properties(cuelight_static PROPERTIES OUTPUT_NAME cuelight LINKER_LANGUAGE C)
target_link_options(cuelight PRIVATE "LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/cuelight.map" "LINKER:-z,relro,-z,now")
if(NOT CUE_SANITIZE) # a sanitizer's symbols come from the program
    target_link_options(cuelight PRIVATE "LINKER:-z,defs")
endif()
target_link_options(cuelight_static INTERFACE "LINKER:--undefined=lane_recovery_hooks") # also a program without lanes recovers those of others
foreach(library IN ITEMS cuelight cuelight_static)
    target_link_libraries(${library} PRIVATE $<BUILD_INTERFACE:cue_flags> ${links} Threads::Threads)
    target_include_directories(${library} PUBLIC
        "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
endforeach()
add_library(cuelight::cuelight ALIAS cuelight)
add_library(cuelight::static ALIAS cuelight_static)
