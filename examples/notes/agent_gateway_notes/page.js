/** How many notes the conversation has, in the head of the page. */
export default {
  fold: { name: "notes", types: ["note_added"], initial: 0, apply: (count) => count + 1 },
  header(element, place) {
    const shown = element.appendChild(document.createElement("span"));
    const show = () => {
      shown.textContent = place.value === 1 ? "1 note" : `${place.value} notes`;
    };
    show();
    return place.onChange(show);
  },
};
