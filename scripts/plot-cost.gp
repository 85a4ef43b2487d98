# SPDX-License-Identifier: GPL-2.0
#
# The plots of Documentation/cost.rst. write-cost calls gnuplot with
#   data    a folder with the files switch-ARCH and paths-ARCH
#   stem    how the names of the plots begin
#   arches  words: the architectures

set terminal svg size 900, 380 * words(arches) font "sans,13" background "white" noenhanced
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set boxwidth 0.9
set grid ytics
set ylabel "instructions over unregistered"
set yrange [0:*]
set key outside top center horizontal
set rmargin 9

set output stem . "-switch.svg"
set multiplot layout words(arches), 1
do for [arch in arches] {
	file = data . "/switch-" . arch
	set title arch . ": a context switch, by kernel"
	plot file using 2:xtic(1) title "v1 (32 bytes)", \
	     file using 3 title "v2 by size", \
	     file using 4 title "v2 by flag"
}
unset multiplot

set output stem . "-paths.svg"
set multiplot layout words(arches), 1
set xtics rotate by -35
do for [arch in arches] {
	file = data . "/paths-" . arch
	set title arch . ": one event, by path"
	plot file using 2:xtic(1) title "unpatched, 32 bytes", \
	     file using 3 title "v1", \
	     file using 4 title "v2 by flag"
}
unset multiplot
