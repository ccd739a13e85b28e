/* The recipe of the base image: a script for /bin/sh, arguments root folder
 * and work folder (which holds cas/NNN.crt, the extra authorities). */
#ifndef E2B_IMAGE_RECIPE_H
#define E2B_IMAGE_RECIPE_H

extern const char *const image_recipe[]; /* pieces, NULL at the end */

#endif
